/** Regular expressions of text filters: JavaScript syntax, case-insensitive, Unicode mode. */

const MAX_LENGTH = 500;

export const compilePattern = (pattern: string): RegExp => new RegExp(pattern, "iu");

/** The syntax error of a regular expression, or null. */
export function patternError(pattern: string): string | null {
  if (pattern.length > MAX_LENGTH) return `At most ${MAX_LENGTH} characters.`;
  try {
    compilePattern(pattern);
    return null;
  } catch (error) {
    // "Invalid regular expression: /(/iu: Unterminated group": the user sees the pattern already.
    return `Invalid regular expression: ${(error as Error).message.split(": ").pop()!.toLowerCase()}.`;
  }
}
