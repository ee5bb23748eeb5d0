/** Filter of numbers and dates: a histogram with a range, set by pointer or keyboard. */

import { useRef } from "preact/hooks";
import { counts } from "../../counting";
import { BINS } from "../../engine/crossfilter";
import { keyOf, type ColumnFilter } from "../../engine/filters";
import type { NumberColumn } from "../../engine/format";
import { betterScale, formatValue, position, valueAt } from "../../engine/scale";
import { clampSlider } from "../range-ends";
import { count } from "../words";
import type { FilterProps } from "./filter-props";

const HEIGHT = 56;

export function RangeFilter({ column, filter, set }: { column: NumberColumn } & FilterProps<Extract<ColumnFilter, { kind: "range" }>>) {
  const counted = counts.value?.columns.get(keyOf(column));
  const kind = betterScale(column);
  const chart = useRef<SVGSVGElement>(null);
  const dragStart = useRef(0);
  const at = (value: number, open: number) => (Number.isFinite(value) ? Math.round(BINS * position(value, column, kind)) : open);
  const [low, high] = [at(filter?.from ?? -Infinity, 0), at(filter?.to ?? Infinity, BINS)];
  const nulls = filter?.nulls ?? true;
  // Text of an end: the filter's exact value, which may lie between bins if it came from a link.
  const endText = (value: number | undefined, bin: number) =>
    formatValue(value !== undefined && Number.isFinite(value) ? value : valueAt(bin / BINS, column, kind), column);
  const setFilter = (from: number, to: number, others: boolean) => {
    const whole = from <= 0 && to >= BINS;
    if (whole && others) return set(null);
    const end = (bin: number) => valueAt(bin / BINS, column, kind);
    set({ kind: "range", from: from <= 0 ? -Infinity : end(from), to: to >= BINS ? Infinity : end(to), nulls: others });
  };
  // A new range excludes missing values, until they are included explicitly.
  const setRange = (from: number, to: number) => setFilter(Math.min(from, to), Math.max(from, to), filter ? nulls : false);
  const maxCount = Math.max(1, ...(counted?.all.slice(0, BINS) ?? []));
  const barHeight = (n: number) => (n ? Math.max(1.5, (HEIGHT * n) / maxCount) : 0);
  const binAt = (event: PointerEvent) => {
    const { left, width } = chart.current!.getBoundingClientRect();
    return Math.min(BINS, Math.max(0, ((event.clientX - left) / width) * BINS));
  };
  return (
    <div class="range">
      <svg
        ref={chart}
        class="histogram"
        viewBox={`0 0 ${BINS} ${HEIGHT}`}
        preserveAspectRatio="none"
        role="img"
        aria-label={`Histogram of ${column.name}, from ${formatValue(column.min, column)} to ${formatValue(column.max, column)}${kind === "quantile" ? ", in bars of as many documents each" : ""}`}
        onPointerDown={(event) => {
          event.currentTarget.setPointerCapture(event.pointerId);
          dragStart.current = Math.round(binAt(event));
        }}
        onPointerMove={(event) => {
          if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
          const to = Math.round(binAt(event));
          if (to !== dragStart.current) setRange(dragStart.current, to);
        }}
      >
        {counted &&
          Array.from({ length: BINS }, (_, k) => (
            <g key={k}>
              <rect class="ghost" x={k + 0.06} width={0.88} y={HEIGHT - barHeight(counted.all[k])} height={barHeight(counted.all[k])} />
              <rect
                class={k >= low && k < high ? "bar" : "bar off"}
                x={k + 0.06}
                width={0.88}
                y={HEIGHT - barHeight(counted.passing[k])}
                height={barHeight(counted.passing[k])}
              />
            </g>
          ))}
      </svg>
      <div class="ends">
        <label>
          <span class="muted">from {endText(filter?.from, low)}</span>
          <input
            type="range"
            min={0}
            max={BINS}
            value={low}
            aria-label={`${column.name} from`}
            aria-valuetext={endText(filter?.from, low)}
            onInput={(event) => {
              const value = clampSlider(event.currentTarget, 0, BINS - 1);
              setRange(value, Math.max(high, value + 1));
            }}
          />
        </label>
        <label>
          <span class="muted">to {endText(filter?.to, high)}</span>
          <input
            type="range"
            min={0}
            max={BINS}
            value={high}
            aria-label={`${column.name} to`}
            aria-valuetext={endText(filter?.to, high)}
            onInput={(event) => {
              const value = clampSlider(event.currentTarget, 1, BINS);
              setRange(Math.min(low, value - 1), value);
            }}
          />
        </label>
      </div>
      {column.nulls > 0 && (
        <label class="check">
          <input type="checkbox" checked={nulls} onChange={() => setFilter(low, high, !nulls)} />
          <span class="name">no value</span>
          <span class="size">{count(counted ? counted.passing[BINS] : column.nulls)}</span>
        </label>
      )}
      {kind === "quantile" && <p class="muted small">Each bar is a 32nd of the values: a few are far larger than the others.</p>}
    </div>
  );
}
