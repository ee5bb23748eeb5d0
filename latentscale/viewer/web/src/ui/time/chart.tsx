/** The time histogram, with a range ("stretch") that can be drawn, resized and moved. */

import { useRef } from "preact/hooks";
import { css } from "../../engine/colour";
import type { Stretch } from "../../engine/time";
import type { StripCounts } from "./time-counts";
import type { StripSettings } from "./strip-settings";

const HEIGHT = 100;
/** Grab distance in px around an end of the range; suits touch. */
const GRAB_RADIUS = 10;

interface Chart {
  counted: StripCounts;
  bars: StripSettings["bars"];
  stretch: Stretch | null;
  name: string;
  set(stretch: Stretch): void;
}

export function TimeChart({ counted, bars, stretch, name, set }: Chart) {
  const box = useRef<SVGSVGElement>(null);
  const dragged = useRef<{ how: "new" | "from" | "to" | "move"; at: number; start: Stretch } | null>(null);
  const { edges } = counted.bars;
  const last = edges.length - 1;
  const x = (k: number) => (edges[k] - edges[0]) / (edges[last] - edges[0]);
  const barAt = (event: PointerEvent): number => {
    const { left, width } = box.current!.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - left) / width));
    let k = 0;
    while (k < last - 1 && x(k + 1) <= share) k++;
    return k;
  };
  const beginDrag = (event: PointerEvent): void => {
    const { left, width } = box.current!.getBoundingClientRect();
    const at = barAt(event);
    const near = (k: number) => Math.abs(event.clientX - left - x(k) * width) < GRAB_RADIUS;
    const now: Stretch = stretch ?? [0, last];
    const inside = stretch !== null && (stretch[0] > 0 || stretch[1] < last) && at >= stretch[0] && at < stretch[1];
    const how = !stretch ? "new" : near(stretch[1]) ? "to" : near(stretch[0]) ? "from" : inside ? "move" : "new";
    event.currentTarget instanceof Element && event.currentTarget.setPointerCapture(event.pointerId);
    dragged.current = { how, at, start: now };
    if (how === "new") set([at, at + 1]);
  };
  const drag = (event: PointerEvent): void => {
    if (!dragged.current) return;
    const { how, at, start } = dragged.current;
    const now = barAt(event);
    if (how === "new") set([Math.min(at, now), Math.max(at, now) + 1]);
    else if (how === "from") set([Math.min(now, start[1] - 1), start[1]]);
    else if (how === "to") set([start[0], Math.max(now, start[0]) + 1]);
    else {
      const by = Math.min(last - start[1], Math.max(-start[0], now - at));
      set([start[0] + by, start[1] + by]);
    }
  };
  const isInRange = (k: number) => !stretch || (k >= stretch[0] && k < stretch[1]);
  return (
    <svg
      ref={box}
      class="time-chart"
      viewBox={`0 0 1 ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={`Documents by ${name}, a bar each ${counted.bars.unit}, from ${counted.bars.label(0)} to ${counted.bars.label(last - 1)}`}
      onPointerDown={beginDrag}
      onPointerMove={drag}
      onPointerUp={() => (dragged.current = null)}
      onPointerCancel={() => (dragged.current = null)}
    >
      {Array.from({ length: last }, (_, k) => (
        <g key={k} class={isInRange(k) ? undefined : "off"} data-bar={k}>
          <title>{barText(counted, k)}</title>
          <rect class="reach" x={x(k)} width={x(k + 1) - x(k)} y={0} height={HEIGHT} />
          <Bar counted={counted} bars={bars} k={k} x={x(k)} width={0.9 * (x(k + 1) - x(k))} />
        </g>
      ))}
      {stretch && <rect class="stretch" x={x(stretch[0])} width={x(stretch[1]) - x(stretch[0])} y={0} height={HEIGHT} />}
    </svg>
  );
}

function Bar({ counted, bars, k, x, width }: { counted: StripCounts; bars: StripSettings["bars"]; k: number; x: number; width: number }) {
  const barHeight = (n: number, most: number) => (n ? Math.max(bars === "all" ? 1.5 : 0, (HEIGHT * n) / most) : 0);
  if (bars === "all" || !counted.split) {
    const most = Math.max(1, ...counted.all);
    const rect = (n: number, kind: string) => <rect class={kind} x={x} width={width} y={HEIGHT - barHeight(n, most)} height={barHeight(n, most)} />;
    return (
      <>
        {rect(counted.all[k], "ghost")}
        {rect(counted.passing[k], "bar")}
      </>
    );
  }
  const most = bars === "shares" ? Math.max(1, counted.passing[k]) : Math.max(1, ...counted.passing);
  let below = HEIGHT;
  return (
    <>
      {counted.split.series.map(({ name, rgb }, s) => {
        const height = barHeight(counted.series[s][k], most);
        below -= height;
        return height > 0 && <rect key={name} x={x} width={width} y={below} height={height} style={{ fill: css(rgb) }} />;
      })}
    </>
  );
}

/** Text of a bar. */
export function barText({ bars, all, passing }: StripCounts, k: number): string {
  return `${bars.label(k)}: ${passing[k].toLocaleString("en")}${all[k] === passing[k] ? "" : ` of ${all[k].toLocaleString("en")}`}`;
}
