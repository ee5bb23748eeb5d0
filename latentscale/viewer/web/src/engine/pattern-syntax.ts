/** Regular expressions as filters by text take them: those of JavaScript, in any case, by whole characters. */

const MAX_LENGTH = 500;

export const compilePattern = (pattern: string): RegExp => new RegExp(pattern, "iu");

/** What is wrong with a regular expression, or null. */
export function patternError(pattern: string): string | null {
  if (pattern.length > MAX_LENGTH) return `At most ${MAX_LENGTH} characters.`;
  try {
    compilePattern(pattern);
    return null;
  } catch (error) {
    // "Invalid regular expression: /(/iu: Unterminated group": what was typed is there to be seen.
    return `No regular expression: ${(error as Error).message.split(": ").pop()!.toLowerCase()}.`;
  }
}
