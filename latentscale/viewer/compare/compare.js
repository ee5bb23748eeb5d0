/* Two pages side by side: what is chosen here is shown in both. Text is set as text only. */
"use strict";
const facts = JSON.parse(document.getElementById("facts").textContent);
const byId = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en");
const sides = [byId("a"), byId("b")];
// A channel of this window: other windows with the same comparison are not moved.
const name = `compare-${Math.random().toString(36).slice(2)}`;
const channel = new BroadcastChannel(`latentscale ${name}`);
// What was said last. A page listens once it is drawn, and then asks for what came before.
const known = { pinned: null, selected: null };
channel.addEventListener("message", ({ data }) => {
  for (const part of Object.keys(known)) if (data[part] !== undefined) known[part] = data[part];
  const answer = Object.fromEntries((data.asks ?? []).map((part) => [part, known[part]]).filter(([, value]) => value !== null));
  if (Object.keys(answer).length) channel.postMessage({ from: "list", to: data.from, ...answer });
});
function pin(rowId) {
  known.pinned = rowId;
  channel.postMessage({ from: "list", pinned: rowId });
}
let colour = "@moved";
let clusters = [[], []];

/** What the pages show, as their addresses. */
function address(side) {
  const parts = ["o=-list"];
  const own = colour === "other" ? `@${facts.other[side]}` : colour;
  if (own !== "cluster") parts.push(`c=${encodeURIComponent(own)}`);
  if (clusters[side].length) parts.push(`i=${clusters[side].map((id) => (id < 0 ? "n" : `0.${id}`)).join(",")}`);
  return `#${parts.join("&")}`;
}
let shown = false;
function show() {
  shown = true;
  sides.forEach((frame, side) => {
    frame.contentWindow.location.hash = address(side);
  });
  for (const button of document.querySelectorAll("[data-colour]")) button.setAttribute("aria-pressed", String(button.dataset.colour === colour));
}

function item(list, title, rest, act) {
  const li = document.createElement("li");
  const button = document.createElement("button");
  const words = document.createElement("b");
  const more = document.createElement("span");
  words.textContent = title;
  words.dir = "auto";
  more.textContent = rest;
  button.append(words, more);
  button.addEventListener("click", act);
  li.append(button);
  list.append(li);
}

document.title = facts.title;
document.querySelector("h1").textContent = facts.title;
byId("first").textContent = facts.names[0];
byId("second").textContent = facts.names[1];
const only = facts.only.some((n) => n > 0) ? ` · ${count(facts.only[0])} on the first alone, ${count(facts.only[1])} on the second alone` : "";
byId("figures").textContent = `${count(facts.documents)} documents on both${only} · half of them moved by more than ${(100 * facts.residual).toFixed(0)} % of the map's size · ${(100 * facts.kept).toFixed(0)} % of neighbours kept`;

const KINDS = { same: "the same", split: "split", merged: "merged", moved: "in another one", dissolved: "dissolved" };
byId("tally").textContent = Object.entries(KINDS)
  .map(([kind, words]) => [facts.changes.filter((one) => one.change === kind).reduce((n, one) => n + one.before.length, 0), words])
  .filter(([n]) => n > 0)
  .map(([n, words]) => `${n} ${words}`)
  .join(" · ");
for (const change of facts.changes) {
  if (change.change === "same") continue;
  const labels = (side, ids) => ids.map((id) => facts.labels[side][id]).join(" + ");
  const goal = change.after.length ? ` → ${labels(1, change.after)}` : "";
  item(byId("changes"), `${labels(0, change.before)}${goal}`, `${KINDS[change.change]}, ${count(change.documents)} documents`, () => {
    const again = clusters[0].join() === change.before.join() && clusters[1].join() === change.after.join();
    clusters = again ? [[], []] : [change.before, change.after];
    show();
  });
}
for (const one of facts.moved)
  item(byId("moved"), one.text, `moved by ${(100 * one.moved).toFixed(0)} % of the map's size, ${(100 * one.kept).toFixed(0)} % of neighbours kept`, () =>
    pin(one.row_id),
  );
for (const button of document.querySelectorAll("[data-colour]"))
  button.addEventListener("click", () => {
    colour = button.dataset.colour;
    show();
  });
sides.forEach((frame, side) => {
  // What was asked for while there was no page yet.
  frame.addEventListener("load", () => shown && (frame.contentWindow.location.hash = address(side)));
  frame.src = `./${"ab"[side]}/viewer/index.html?linked=${name}${address(side)}`;
});
