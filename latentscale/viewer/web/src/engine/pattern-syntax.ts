/** Regular expressions as filters by text take them: those of JavaScript, in any case, by whole characters. */

const MOST = 500;

export const compiled = (pattern: string): RegExp => new RegExp(pattern, "iu");

/** What is wrong with a regular expression, or null. */
export function patternFault(pattern: string): string | null {
  if (pattern.length > MOST) return `At most ${MOST} characters.`;
  try {
    compiled(pattern);
    return null;
  } catch (error) {
    // "Invalid regular expression: /(/iu: Unterminated group": what was typed is there to be seen.
    return `No regular expression: ${(error as Error).message.split(": ").pop()!.toLowerCase()}.`;
  }
}
