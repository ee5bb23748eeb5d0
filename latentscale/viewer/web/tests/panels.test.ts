import { signal } from "@preact/signals";
import { describe, expect, it } from "vitest";
import { readAddress, writeAddress } from "../src/engine/address";
import { isOpen, panelAddress, panels, register, restorePanels, setOpen, toggle, withButton, type Panel } from "../src/ui/panel-registry";

const nothing = () => null;
const there = signal(true);
const words = signal("");
const followed = signal(false);
const dummy: Panel = {
  id: "dummy",
  title: "A dummy",
  side: "right",
  open: false,
  Component: nothing,
  available: () => there.value,
  key: { name: "d", does: "open the dummy" },
  kept: words,
};
register(dummy);
register({ id: "first", title: "First", side: "left", open: true, Component: nothing, Closed: nothing });
register({ id: "follows", title: "Follows", side: "right", open: () => followed.value, Component: nothing });
const [, first, follows] = panels();
const shared = () => writeAddress(panelAddress());

describe("a panel from elsewhere", () => {
  it("is among the others, in their order, and has a button while there is something to show", () => {
    expect(panels().map((panel) => panel.id)).toEqual(["dummy", "first", "follows"]);
    expect(withButton().map((panel) => panel.id)).toEqual(["dummy"]);
    there.value = false;
    expect(withButton()).toEqual([]);
    toggle("dummy");
    expect(isOpen(dummy)).toBe(false);
    there.value = true;
    expect(isOpen(dummy)).toBe(true);
    toggle("dummy");
    expect(isOpen(dummy)).toBe(false);
  });

  it("is in the address only where it is not as at first", () => {
    expect(shared()).toBe("");
    setOpen("dummy", true);
    setOpen("first", false);
    words.value = "cats & dögs";
    expect(shared()).toBe("#o=dummy,-first&x.dummy=cats%20%26%20d%C3%B6gs");
    followed.value = true;
    expect(shared()).toBe("#o=dummy,-first&x.dummy=cats%20%26%20d%C3%B6gs");
  });

  it("is brought back by an address, which may name others", () => {
    const address = shared();
    setOpen("dummy", false);
    setOpen("first", true);
    words.value = "";
    restorePanels(readAddress(`${address}&o2=x`));
    expect([isOpen(dummy), isOpen(first), words.value]).toEqual([true, false, "cats & dögs"]);
    restorePanels(readAddress("#o=nobody,-dummy,first,-follows,<b>&x.nobody=1&x.dummy=%E0%A4%A"));
    expect([isOpen(dummy), isOpen(first), isOpen(follows), words.value]).toEqual([false, true, true, ""]);
    restorePanels(readAddress(""));
    expect([isOpen(dummy), isOpen(first)]).toEqual([false, true]);
  });

  it("has an id and a key that nothing else has", () => {
    expect(() => register({ ...dummy, key: undefined })).toThrow("Two panels are called dummy");
    expect(() => register({ ...dummy, id: "My panel" })).toThrow("lower-case letters");
    for (const name of ["d", "t", "Escape"])
      expect(() => register({ ...dummy, id: "other", key: { name, does: "…" } })).toThrow(`The key ${name} of the panel other`);
    expect(panels()).toHaveLength(3);
  });
});
