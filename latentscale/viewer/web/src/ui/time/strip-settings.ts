/** What the strip keeps in the page's address: the column, what the bars show, how a stretch moves, and how fast. */

export const BARS = ["all", "clusters", "shares"] as const;
export const SPEEDS = ["slow", "normal", "fast"] as const;

export interface StripSettings {
  /** As filters name it; null for the first there is. */
  column: string | null;
  bars: (typeof BARS)[number];
  speed: (typeof SPEEDS)[number];
  /** Whether the stretch grows while it is played, and does not move on. */
  grows: boolean;
  /** Whether strays are in the strip too. */
  whole: boolean;
}

/** Only what is not as at first. */
export function writeSettings({ column, bars, speed, grows, whole }: StripSettings): string {
  const words = [column !== null && encodeURIComponent(column), bars !== "all" && bars, speed !== "normal" && speed, grows && "grows", whole && "whole"];
  return words.filter(Boolean).join(" ");
}

/** Words that are none of these are left out: an address is typed by people. */
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
