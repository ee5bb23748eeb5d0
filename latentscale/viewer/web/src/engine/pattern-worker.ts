/**
 * Web worker that tests texts against a regular expression: backtracking may take for ever and must not block the page.
 */

import { compilePattern } from "./pattern-syntax";

onmessage = ({ data: { pattern, texts } }: MessageEvent<{ pattern: string; texts: (string | null)[] }>) => {
  const expression = compilePattern(pattern);
  postMessage(Uint8Array.from(texts, (text) => (text !== null && expression.test(text) ? 1 : 0)));
};
