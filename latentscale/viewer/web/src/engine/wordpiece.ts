/** BERT's WordPiece tokenizer (Devlin et al. 2019), equal to the model's own tokenizer. */

import newer from "../../../search/newer-characters.json";

/** Tokeniser settings, as `TokenTable` in `latentscale/embedders/token_table.py`. */
export interface Rules {
  lowercase: boolean;
  strip_accents: boolean;
  clean_text: boolean;
  handle_chinese_chars: boolean;
  /** Prefix of continuation pieces. */
  prefix: string;
  /** Maximum characters of a word; longer ones are unknown. */
  longest: number;
  unknown: string;
  /** Special tokens, matched before normalisation. */
  added: string[];
  max_tokens: number;
  max_characters: number;
}

const SPACE = /^\p{White_Space}$/u;
const OTHER = /^[\p{Cc}\p{Cf}\p{Co}\p{Cs}]$/u;
const PUNCTUATION = /^[!-/:-@[-`{-~\p{P}]$/u;
/** Characters that were punctuation in the tokenizer's Unicode version. */
const FORMER_PUNCTUATION = /^[\u166d\u{111c9}]$/u;
/** Marks, punctuation and symbols newer than the tokenizer's Unicode version, which treats them as letters. */
const NEWER = new RegExp(`^[${newer.kept.map(([low, high]) => `\\u{${low}}-\\u{${high}}`).join("")}]$`, "u");
const isOther = (c: string): boolean => OTHER.test(c) && !NEWER.test(c);
const isPunctuation = (c: string): boolean => FORMER_PUNCTUATION.test(c) || (PUNCTUATION.test(c) && !NEWER.test(c));
const CHINESE = /[\u4E00-\u9FFF\u3400-\u4DBF\u{20000}-\u{2A6DF}\u{2A700}-\u{2B73F}\u{2B740}-\u{2B81F}\u{2B920}-\u{2CEAF}\uF900-\uFAFF\u{2F800}-\u{2FA1F}]/gu;
/** Two code points have since changed category. */
const MARKS = /[\p{Mn}\u1734\u{1171e}]/gu;

function normalised(text: string, rules: Rules): string {
  let plain = text;
  if (rules.clean_text)
    plain = [...plain]
      .map((c) => (c === "\t" || c === "\n" || c === "\r" ? " " : c === "\0" || c === "\ufffd" || isOther(c) ? "" : SPACE.test(c) ? " " : c))
      .join("");
  if (rules.handle_chinese_chars) plain = plain.replace(CHINESE, " $& ");
  if (rules.strip_accents) plain = plain.normalize("NFD").replace(MARKS, (c) => (NEWER.test(c) ? c : ""));
  // By character: lowercasing a whole word would turn a last sigma into a final sigma.
  return rules.lowercase ? Array.from(plain, (c) => c.toLowerCase()).join("") : plain;
}

function* splitWords(text: string): Generator<string[]> {
  let word: string[] = [];
  for (const c of text) {
    const isSeparate = isPunctuation(c);
    if (!isSeparate && !SPACE.test(c)) {
      word.push(c);
      continue;
    }
    if (word.length) yield word;
    word = [];
    if (isSeparate) yield [c];
  }
  if (word.length) yield word;
}

/** Greedy longest-match pieces of a word; null if the vocabulary lacks one. */
function wordPieces(word: string[], vocabulary: ReadonlyMap<string, number>, rules: Rules): number[] | null {
  if (word.length > rules.longest) return null;
  const found: number[] = [];
  for (let start = 0; start < word.length; ) {
    let end = word.length;
    let id: number | undefined;
    for (; end > start; end--) {
      id = vocabulary.get((start ? rules.prefix : "") + word.slice(start, end).join(""));
      if (id !== undefined) break;
    }
    if (id === undefined) return null;
    found.push(id);
    start = end;
  }
  return found;
}

/** The token ids of a text, including those of unknown words. */
export function tokenIds(text: string, vocabulary: ReadonlyMap<string, number>, rules: Rules): number[] {
  const unknown = vocabulary.get(rules.unknown)!;
  const ids: number[] = [];
  let remaining = Array.from(text).slice(0, rules.max_characters).join("");
  while (remaining && ids.length < rules.max_tokens) {
    const places = rules.added.map((token) => ({ token, at: remaining.indexOf(token) })).filter(({ at }) => at >= 0);
    const next = places.sort((a, b) => a.at - b.at || b.token.length - a.token.length)[0];
    const part = next ? remaining.slice(0, next.at) : remaining;
    for (const word of splitWords(normalised(part, rules))) ids.push(...(wordPieces(word, vocabulary, rules) ?? [unknown]));
    if (next) ids.push(vocabulary.get(next.token)!);
    remaining = next ? remaining.slice(next.at + next.token.length) : "";
  }
  return ids.slice(0, rules.max_tokens);
}
