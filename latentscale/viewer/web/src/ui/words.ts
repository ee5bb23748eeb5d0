/** Formatting of numbers, values and texts. */

export const count = (n: number): string => n.toLocaleString("en");

/** A share in percent, with a decimal below 10 %. */
export const percent = (part: number, whole: number): string => {
  if (!whole) return "0 %";
  const value = (100 * part) / whole;
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
};

/** A count with its noun. */
export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

/** Truncate to `length` characters, at a space if one is near. */
export function shortened(text: string, length: number): string {
  if (text.length <= length) return text;
  const part = text.slice(0, length);
  const space = part.lastIndexOf(" ");
  return `${(space > 0.8 * length ? part.slice(0, space) : part).trimEnd()}…`;
}

/** Longest-line widths that suggest hard-wrapped text, as for terminals or mail, and the tolerance of single lines. */
const WRAPPED = { least: 40, most: 120, slack: 3 };
/** Lines that start a block of their own: list items, quotes, headings, indented lines. */
const OWN_LINE = /^(\s|[-*•·+>#|=~_]|\d+[.)]|\p{L}[.)]\s)/u;

/**
 * Unwrap hard-wrapped text: remove breaks where the next word would not have fitted. Verses, lists, code and paragraphs
 * keep their breaks.
 */
export function reflowed(text: string): string {
  const lines = text.split(/\r?\n/);
  const width = Math.max(...lines.map((line) => line.trimEnd().length));
  if (lines.length < 2 || width < WRAPPED.least || width > WRAPPED.most) return text;
  let made = lines[0].trimEnd();
  for (let i = 1; i < lines.length; i++) {
    const [before, line] = [lines[i - 1].trimEnd(), lines[i].trimEnd()];
    const word = /^\S+/.exec(line)?.[0] ?? "";
    // A first line may be a title.
    if (i === 1 && /^\p{Lu}/u.test(line) && !/\p{P}$/u.test(before)) {
      made += `\n${line}`;
      continue;
    }
    const full = before.length + 1 + word.length > width - WRAPPED.slack && before.includes(" ");
    made += (full && word && !OWN_LINE.test(line) ? " " : "\n") + line;
  }
  return made;
}

/** Shortest decimal that identifies a number; for float32 values, at float32 precision. */
function numberText(value: number): string {
  if (Number.isInteger(value) || Math.fround(value) !== value) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(value);
}

/** A document's value as text; corpus text is untrusted and never markup. */
export function valueText(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (value instanceof Date) {
    const text = Number.isNaN(value.getTime()) ? "" : value.toISOString();
    return text.endsWith("T00:00:00.000Z") ? text.slice(0, 10) : text.replace("T", " ").replace(/(\.000)?Z$/, "");
  }
  if (value instanceof Uint8Array) return `${value.length} bytes`;
  if (typeof value === "number") return numberText(value);
  if (typeof value === "object") return JSON.stringify(value, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v));
  return String(value);
}

/** The URL of a value that is a safe http(s) link, or null. */
export function linkOf(value: unknown): string | null {
  if (typeof value !== "string" || !/^https?:\/\/[^\s]+$/i.test(value) || value.length > 2000) return null;
  try {
    const url = new URL(value);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}
