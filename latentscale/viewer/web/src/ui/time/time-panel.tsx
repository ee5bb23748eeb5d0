/** The time panel: a histogram of documents over time, a range that filters the map, and its animation. */

import { computed, effect, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { clampSlider } from "../range-ends";
import { counts } from "../../counting";
import { css } from "../../engine/colour";
import { keyOf, withFilter, writeFilter, type ColumnFilter } from "../../engine/filters";
import type { ColourColumn } from "../../engine/format";
import { formatValue } from "../../engine/scale";
import { barsOf, filterOf, stretchOf, timeColumns, type Stretch } from "../../engine/time";
import * as state from "../../state";
import { Icon } from "../icon";
import { turn } from "../panel-registry";
import { save } from "../save";
import { count, plural, shortened } from "../words";
import { TimeChart } from "./chart";
import { stripCounts, updateCounts, type StripCounts } from "./time-counts";
import { readSettings, SPEEDS, writeSettings, type StripSettings } from "./strip-settings";
import { pause, play, reducedMotion } from "./play";
import { seriesSplit } from "./series";

const ID = "time";
const BARS: Record<StripSettings["bars"], string> = { all: "All documents", clusters: "By cluster", shares: "Shares of clusters" };

export function TimePanel({ kept }: { kept: Signal<string> }) {
  const strip = useMemo(() => new Strip(kept), []);
  useEffect(() => {
    const stop = strip.keepCounting();
    return () => {
      pause();
      stop();
    };
  }, []);
  const now = strip.now.value;
  return (
    <aside class="card time-strip" aria-label="Over time">
      {now === null ? <p class="muted">This map has no time column: dates, or years as integers.</p> : <StripHeader strip={strip} />}
      <button class="icon close" aria-label="Close the time" title="Close the time (Esc)" onClick={() => turn(ID, false)}>
        <Icon name="close" />
      </button>
      {now && stripCounts.value?.bars === now.bars ? <StripBody strip={strip} counted={stripCounts.value} /> : now && <p class="muted">Counting…</p>}
    </aside>
  );
}

/** State and actions of the time panel. */
class Strip {
  readonly columns = computed(() => timeColumns(state.index.value?.colours ?? []));
  readonly kept: { readonly value: StripSettings };
  /** The column and its bars; null without a temporal column. */
  readonly now;
  readonly stretch;

  constructor(private readonly text: Signal<string>) {
    const kept = computed(() => readSettings(text.value));
    this.kept = kept;
    // Bars keep their identity while column and range do: counts are matched to them.
    const which = computed(() => `${kept.value.column} ${kept.value.whole}`);
    this.now = computed(() => {
      void which.value;
      const { column, whole } = kept.peek();
      const time = this.columns.value.find((one) => keyOf(one.column) === column) ?? this.columns.value[0];
      return time ? { time, key: keyOf(time.column), bars: barsOf(time, whole ? [time.low, time.high] : time.body) } : null;
    });
    this.stretch = computed(() => {
      const now = this.now.value;
      return now && stretchOf(now.time, now.bars.edges, state.filters.value.get(now.key));
    });
  }

  keep(changes: Partial<StripSettings>): void {
    this.text.value = writeSettings({ ...this.kept.value, ...changes });
  }

  set(stretch: Stretch | null): void {
    const { time, key, bars } = this.now.value!;
    state.filters.value = withFilter(state.filters.value, key, stretch && filterOf(time, bars.edges, stretch));
  }

  /** Move the range by a number of bars. */
  step(by: number): void {
    const bars = this.now.value!.bars.edges.length - 1;
    const [from, to] = this.stretch.value ?? (by > 0 ? [-1, 0] : [bars, bars + 1]);
    const clamped = Math.min(bars - to, Math.max(-from, by));
    this.set([from + clamped, to + clamped]);
  }

  play(): void {
    if (state.playing.value) return pause();
    const now = () => {
      const { bars } = this.now.value!;
      return { bars: bars.edges.length - 1, stretch: this.stretch.value, kept: this.kept.value };
    };
    play(now, (stretch) => this.set(stretch));
  }

  /** Keep the counts current. Returns a function that stops. */
  keepCounting(): () => void {
    // Its own filter does not affect its counts.
    const others = computed(() => JSON.stringify([...state.filters.value].filter(([key]) => key !== this.now.value?.key)));
    const bySeries = computed(() => this.kept.value.bars !== "all");
    return effect(() => {
      void [others.value, state.textMatches.value, state.shownClusters.value];
      const now = this.now.value;
      const split = bySeries.value ? seriesSplit() : null;
      if (now) void updateCounts(now.time, now.bars, split);
    });
  }
}

function StripHeader({ strip }: { strip: Strip }) {
  const { key } = strip.now.value!;
  const { bars, speed, grows } = strip.kept.value;
  const playing = state.playing.value;
  return (
    <header>
      <div class="time-tools" role="group" aria-label="The stretch of time">
        <button class="icon" aria-label="Earlier" title="Earlier" onClick={() => strip.step(-1)}>
          <Icon name="left" />
        </button>
        {!reducedMotion() && (
          <button class="icon" aria-label={playing ? "Pause" : "Play"} title={playing ? "Pause" : "Play: the stretch moves over the time"} onClick={() => strip.play()}>
            <Icon name={playing ? "pause" : "play"} />
          </button>
        )}
        <button class="icon" aria-label="Later" title="Later" onClick={() => strip.step(1)}>
          <Icon name="right" />
        </button>
      </div>
      <StretchStatus strip={strip} />
      <div class="time-choices">
        {strip.columns.value.length > 1 && (
          <select aria-label="Time column" value={key} onChange={(event) => strip.keep({ column: event.currentTarget.value, whole: false })}>
            {strip.columns.value.map(({ column }) => (
              <option key={column.id} value={keyOf(column)}>
                {shortened(column.name, 30)}
              </option>
            ))}
          </select>
        )}
        <select aria-label="What the bars show" value={bars} onChange={(event) => strip.keep({ bars: event.currentTarget.value as StripSettings["bars"] })}>
          {Object.entries(BARS).map(([value, name]) => (
            <option key={value} value={value}>
              {name}
            </option>
          ))}
        </select>
        {!reducedMotion() && (
          <>
            <select aria-label="What playing does" value={String(grows)} onChange={(event) => strip.keep({ grows: event.currentTarget.value === "true" })}>
              <option value="false">Stretch moves</option>
              <option value="true">Stretch grows</option>
            </select>
            <select aria-label="Speed" value={speed} onChange={(event) => strip.keep({ speed: event.currentTarget.value as StripSettings["speed"] })}>
              {SPEEDS.map((one) => (
                <option key={one} value={one}>
                  {one}
                </option>
              ))}
            </select>
          </>
        )}
      </div>
    </header>
  );
}

/** The range, and the number of documents in it, of how many. */
function StretchStatus({ strip }: { strip: Strip }) {
  const { bars, time, key } = strip.now.value!;
  const found = stripCounts.value?.bars === bars ? stripCounts.value : null;
  const stretch = strip.stretch.value;
  const last = bars.edges.length - 1;
  const [from, to] = stretch ?? [0, last];
  const filter = state.filters.value.get(key);
  // A filter from a link or the filters panel may not align with bars.
  const exact = !stretch || !filter || writeFilter(filter) === writeFilter(filterOf(time, bars.edges, stretch));
  const inside = exact ? found && found.passing.slice(from, to).reduce((sum, n) => sum + n, 0) : (counts.value?.passing ?? null);
  const rangeLabel = exact ? (to - from === 1 ? bars.label(from) : `${bars.label(from)} – ${bars.label(to - 1)}`) : rangeText(time.column, filter);
  const outliers = found ? found.before + found.after : 0;
  return (
    // Screen readers are not notified of each animation step.
    <p class="time-said" role="status" aria-live={state.playing.value ? "off" : "polite"}>
      <b>{rangeLabel}</b>
      {found && inside !== null && (
        <span class="muted">
          {" "}
          {count(inside)} of {found.base.whole ? "all" : "the"} {plural(found.base.documents, "document")}
          {found.base.whole ? "" : ` read, of ${count(state.documents.value)}`}
          {!stretch && found.none > 0 && `, ${count(found.none)} without a date`}
          {!stretch && outliers > 0 && `, ${count(outliers)} before or after`}
        </span>
      )}{" "}
      {stretch && (
        <button class="link" onClick={() => (pause(), strip.set(null))}>
          All times
        </button>
      )}
      {!stretch && (strip.kept.value.whole || outliers > 0) && time.body[1] - time.body[0] < time.high - time.low && (
        <button class="link" onClick={() => strip.keep({ whole: !strip.kept.value.whole })}>
          {strip.kept.value.whole ? "Without outliers" : "With outliers"}
        </button>
      )}
    </p>
  );
}

function rangeText(column: ColourColumn, filter: ColumnFilter): string {
  if (filter.kind !== "range" || column.kind === "categories") return "Some of it";
  const end = (value: number, open: number) => formatValue(Number.isFinite(value) ? value : open, column);
  return `${end(filter.from, column.min)} – ${end(filter.to, column.max)}`;
}

function StripBody({ strip, counted: found }: { strip: Strip; counted: StripCounts }) {
  const { time, bars } = strip.now.value!;
  const last = bars.edges.length - 1;
  const stretch = strip.stretch.value;
  const [from, to] = stretch ?? [0, last];
  const set = (next: Stretch) => (pause(), strip.set(next));
  return (
    <>
      <div class="time-plot">
        <TimeChart counted={found} bars={strip.kept.value.bars} stretch={stretch} name={time.column.name} set={set} />
        <div class="time-axis" aria-hidden="true">
          {bars.ticks.map(({ at, text }) => (
            <span key={text} style={{ left: `${100 * at}%` }}>
              {text}
            </span>
          ))}
        </div>
        <div class="ends">
          <input
            type="range"
            min={0}
            max={last}
            value={from}
            aria-label="Start of the range"
            aria-valuetext={bars.label(from)}
            onInput={(event) => {
              const value = clampSlider(event.currentTarget, 0, last - 1);
              set([value, Math.max(to, value + 1)]);
            }}
          />
          <input
            type="range"
            min={0}
            max={last}
            value={to}
            aria-label="End of the range"
            aria-valuetext={bars.label(to - 1)}
            onInput={(event) => {
              const value = clampSlider(event.currentTarget, 1, last);
              set([Math.min(from, value - 1), value]);
            }}
          />
        </div>
      </div>
      <Legend counted={found} stretch={[from, to]} />
    </>
  );
}

/** Legend of the series with document counts in the range, and CSV export. */
function Legend({ counted: found, stretch: [from, to] }: { counted: StripCounts; stretch: Stretch }) {
  const sum = (counts: Float64Array) => counts.slice(from, to).reduce((all, n) => all + n, 0);
  return (
    <div class="time-legend">
      {found.split && (
        <ul aria-label="Clusters, with their number of documents in the stretch">
          {found.split.series.map(({ name, rgb, ref }, s) => {
            if (!found.series[s].some((n) => n > 0)) return null;
            return (
              <li key={ref ?? name}>
                <button
                  class="row"
                  aria-pressed={ref !== null && state.isolated.value.has(ref)}
                  disabled={ref === null}
                  onClick={() => ref && (state.isolated.value = state.toggled(state.isolated.value, ref))}
                >
                  <span class="swatch" style={{ color: css(rgb) }} aria-hidden="true" />
                  <span dir="auto">{shortened(name, 40)}</span>
                  <span class="size">{count(sum(found.series[s]))}</span>
                </button>
              </li>
            );
          })}
        </ul>
      )}
      <button class="link small" title="Counts of each bar as CSV" onClick={() => save(csvOf(found), "over-time.csv")}>
        Save the counts
      </button>
    </div>
  );
}

/** CSV with a row per bar: its documents, and those of each series. */
function csvOf({ bars, passing, split, series }: StripCounts): string {
  // Prevent names from being interpreted as spreadsheet formulas.
  const quoted = (text: string) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  const names = split?.series.map(({ name }) => quoted(name)) ?? [];
  const rows = Array.from(passing, (n, k) => [quoted(bars.label(k)), n, ...series.map((own) => own[k])].join(","));
  return `${["time", "documents", ...names].join(",")}\n${rows.join("\n")}\n`;
}
