/** Which texts a regular expression is found in: off the page's own thread, since one may take for ever over a text. */

import { compilePattern } from "./pattern-syntax";

onmessage = ({ data: { pattern, texts } }: MessageEvent<{ pattern: string; texts: (string | null)[] }>) => {
  const expression = compilePattern(pattern);
  postMessage(Uint8Array.from(texts, (text) => (text !== null && expression.test(text) ? 1 : 0)));
};
