// Put into each page before its own scripts: it knows what the page has begun and not ended, and waits for its rest.
(() => {
  /** Frames in a row that must look the same: deck.gl draws a frame after the page asked for it. */
  const FRAMES = 4;
  const open = new Map();
  const timers = new Map();
  const later = window.setTimeout;
  const never = window.clearTimeout;
  const ask = window.fetch;
  let count = 0;

  const began = (what) => {
    open.set(++count, what);
    return count;
  };

  window.setTimeout = (work, delay, ...given) => {
    const own = began(`a timer of ${delay ?? 0} ms`);
    const timer = later.call(
      window,
      (...all) => {
        timers.delete(timer);
        try {
          work(...all);
        } finally {
          open.delete(own);
        }
      },
      delay,
      ...given,
    );
    timers.set(timer, own);
    return timer;
  };
  window.clearTimeout = (timer) => {
    open.delete(timers.get(timer));
    timers.delete(timer);
    never.call(window, timer);
  };

  const follow = (what, promise) => {
    const own = began(what);
    const ended = () => open.delete(own);
    promise.then(ended, ended);
    return promise;
  };
  window.fetch = (what, ...given) => follow(`a request of ${what.url ?? what}`, ask.call(window, what, ...given));
  for (const name of ["arrayBuffer", "blob", "json", "text"]) {
    const read = Response.prototype[name];
    Response.prototype[name] = function () {
      return follow(`the answer of ${this.url}`, read.call(this));
    };
  }

  /** Everything that is seen but the canvas: nodes, where they stand, and what was put into the fields. */
  const seen = () => {
    const boxes = [...document.querySelectorAll("#app *")].map((node) => {
      const { x, y, width, height } = node.getBoundingClientRect();
      return `${node.tagName}.${node.getAttribute("class")} at ${[x, y, width, height].map((v) => v.toFixed(1))} ${node.value ?? ""}`;
    });
    return [location.href, document.title, ...boxes, ...document.documentElement.outerHTML.split(/(?=<)/)];
  };

  const isSeen = ({ left, top, right, bottom }) => right > left && bottom > top && right > 0 && bottom > 0 && left < innerWidth && top < innerHeight;

  const busy = () => {
    if (document.readyState !== "complete") return "the page is loading";
    if (document.querySelector(".badge .pulse")) return "tiles are loading";
    const moving = document.getAnimations().find((one) => one.playState === "running" && one.effect.getComputedTiming().endTime < Infinity);
    if (moving) return `${moving.transitionProperty ?? moving.animationName} of .${moving.effect.target?.className} moves`;
    // An element that waits for an image looks the same until it is there. One out of sight may never be asked for.
    const image = [...document.images].find((one) => !one.complete && isSeen(one.getBoundingClientRect()));
    if (image) return `the image ${image.src} is loading`;
    return open.size ? `${[...open.values()].join(", ")} not ended` : "";
  };

  const difference = (before, now) => {
    const at = now.findIndex((line, i) => line !== before[i]);
    return at < 0 ? `${before.length - now.length} nodes went` : `${before[at]} became ${now[at]}`;
  };

  /** Empty when nothing has changed for some frames, or after `limit` milliseconds what still did. */
  window.atRest = async (limit) => {
    const end = performance.now() + limit;
    let same = 0;
    let before = [];
    let why = "";
    for (;;) {
      await new Promise(requestAnimationFrame);
      const reason = busy();
      // Looked at only when nothing is known to be open: each look costs milliseconds.
      const now = reason ? [] : seen();
      const changed = before.length !== now.length || before.some((line, i) => line !== now[i]);
      same = reason || changed ? 0 : same + 1;
      why = reason || (changed && before.length ? difference(before, now) : why);
      before = now;
      if (same === FRAMES) return "";
      if (performance.now() > end) return why;
    }
  };
})();
