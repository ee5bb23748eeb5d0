/** Hyphenated words of a label that must not be broken across lines, such as "UTF-8". */

const HYPHENATED = /([\p{L}\p{M}\p{N}]+(?:-[\p{L}\p{M}\p{N}]+)+)/u;
/**
 * Longest fragment that must not be split off, and longest word kept on one line: a label is about 25 characters wide.
 */
const SHORT_PART = 3;
const MAX_KEPT_LENGTH = 12;

/**
 * Split a label into alternating pieces: those at odd indices are words to keep on one line. Joined, they equal the
 * label.
 */
export function labelPieces(label: string): string[] {
  const found = [""];
  label.split(HYPHENATED).forEach((piece, i) => {
    const isKept = i % 2 === 1 && piece.length <= MAX_KEPT_LENGTH && piece.split("-").some((part) => part.length <= SHORT_PART);
    if (isKept) found.push(piece, "");
    else found[found.length - 1] += piece;
  });
  return found;
}
