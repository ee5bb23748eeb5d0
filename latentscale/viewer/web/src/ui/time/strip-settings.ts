/** Settings of the time panel in the page's address. */

export const BARS = ["all", "clusters", "shares"] as const;
export const SPEEDS = ["slow", "normal", "fast"] as const;

export interface StripSettings {
  /** Filter key of the column; null for the first temporal one. */
  column: string | null;
  bars: (typeof BARS)[number];
  speed: (typeof SPEEDS)[number];
  /** Whether the range grows during animation instead of moving. */
  grows: boolean;
  /** Whether outliers are included. */
  whole: boolean;
}

/** Serialise settings that differ from the defaults. */
export function writeSettings({ column, bars, speed, grows, whole }: StripSettings): string {
  const words = [column !== null && encodeURIComponent(column), bars !== "all" && bars, speed !== "normal" && speed, grows && "grows", whole && "whole"];
  return words.filter(Boolean).join(" ");
}

/** Parse settings; unknown words are ignored: addresses are edited by hand. */
export function readSettings(text: string): StripSettings {
  const words = text.split(" ");
  const column = words.find((word) => /^(@|%40)/.test(word));
  return {
    column: column === undefined ? null : decoded(column),
    bars: BARS.find((one) => words.includes(one)) ?? "all",
    speed: SPEEDS.find((one) => words.includes(one)) ?? "normal",
    grows: words.includes("grows"),
    whole: words.includes("whole"),
  };
}

function decoded(word: string): string | null {
  try {
    return decodeURIComponent(word);
  } catch {
    return null;
  }
}
