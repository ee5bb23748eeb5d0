/** Which words of a label a line must not end within: "UTF-8" cut after its hyphen reads as two things. */

const HYPHENED = /([\p{L}\p{M}\p{N}]+(?:-[\p{L}\p{M}\p{N}]+)+)/u;
/** Parts that do not stand alone, and the longest word that is kept whole: a label is about 25 characters wide. */
const SHORT = 3;
const LONGEST = 12;

/** The pieces of a label in turn; every second one is a word to keep whole. No character is added or changed. */
export function pieces(label: string): string[] {
  const found = [""];
  label.split(HYPHENED).forEach((piece, i) => {
    const whole = i % 2 === 1 && piece.length <= LONGEST && piece.split("-").some((part) => part.length <= SHORT);
    if (whole) found.push(piece, "");
    else found[found.length - 1] += piece;
  });
  return found;
}
