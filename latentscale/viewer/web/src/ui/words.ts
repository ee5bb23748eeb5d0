/** Numbers and values in words. */

export const count = (n: number): string => n.toLocaleString("en");

export const percent = (part: number, whole: number): string => {
  if (!whole) return "0 %";
  const value = (100 * part) / whole;
  return `${value >= 10 || value === 0 ? Math.round(value) : value.toFixed(1)} %`;
};

export const plural = (n: number, one: string, many = `${one}s`): string => `${count(n)} ${n === 1 ? one : many}`;

/** At most `length` characters, cut at a space if there is one near. */
export function shortened(text: string, length: number): string {
  if (text.length <= length) return text;
  const part = text.slice(0, length);
  const space = part.lastIndexOf(" ");
  return `${(space > 0.8 * length ? part.slice(0, space) : part).trimEnd()}…`;
}

/** Text whose longest line has so many characters may have been broken to fit a terminal or a mail; the rest of a line varies. */
const WRAPPED = { least: 40, most: 120, slack: 3 };
/** What begins a line of its own: an item, a quotation, a heading, a line that is set in. */
const OWN_LINE = /^(\s|[-*•·+>#|=~_]|\d+[.)]|\p{L}[.)]\s)/u;

/**
 * Text whose lines were broken at a width that is not this page's, with those breaks taken out: where the first word of
 * the next line would not have fitted. Verses, lists, code and paragraphs keep theirs.
 */
export function reflowed(text: string): string {
  const lines = text.split(/\r?\n/);
  const width = Math.max(...lines.map((line) => line.trimEnd().length));
  if (lines.length < 2 || width < WRAPPED.least || width > WRAPPED.most) return text;
  let made = lines[0].trimEnd();
  for (let i = 1; i < lines.length; i++) {
    const [before, line] = [lines[i - 1].trimEnd(), lines[i].trimEnd()];
    const word = /^\S+/.exec(line)?.[0] ?? "";
    // The first line may be a title.
    if (i === 1 && /^\p{Lu}/u.test(line) && !/\p{P}$/u.test(before)) {
      made += `\n${line}`;
      continue;
    }
    const full = before.length + 1 + word.length > width - WRAPPED.slack && before.includes(" ");
    made += (full && word && !OWN_LINE.test(line) ? " " : "\n") + line;
  }
  return made;
}

/** A number with all the digits that it has: one of float32, which the page holds in 64 bits, with those of 32. */
function numberText(value: number): string {
  if (Number.isInteger(value) || Math.fround(value) !== value) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(value);
}

/** Any value of a document as text: corpus text is hostile and never markup. */
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

/** The address of a link, if a value is one that may be followed. */
export function linkOf(value: unknown): string | null {
  if (typeof value !== "string" || !/^https?:\/\/[^\s]+$/i.test(value) || value.length > 2000) return null;
  try {
    const url = new URL(value);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}
