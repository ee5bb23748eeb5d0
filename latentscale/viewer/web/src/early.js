// Runs before anything else, and from a file too, where modules may not: sets the theme that the address asks for, and
// says why the page stays empty.
{
  const theme = /[#&]t=(dark|light)\b/.exec(location.hash)?.[1];
  if (theme) document.documentElement.dataset.theme = theme;
  const fail = (kind) => {
    const say = () => {
      const told = document.getElementById("offline");
      if (!told) return;
      told.className = "failed";
      for (const part of told.children) part.hidden = part.className !== kind;
    };
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", say);
    else say();
  };
  if (location.protocol === "file:") fail("file");
  addEventListener("error", ({ target }) => target.tagName === "SCRIPT" && location.protocol !== "file:" && fail("script"), true);
}
