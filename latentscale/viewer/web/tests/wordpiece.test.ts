import { describe, expect, it } from "vitest";
import { tokenIds, type Rules } from "../src/engine/wordpiece";
import { haveFixture, read } from "./files";

interface Cases {
  tokens: string[];
  rules: Rules;
  cases: [text: string, ids: number[]][];
}

describe.skipIf(!haveFixture)("the tokens of a text", () => {
  it("are those that the model's own tokenizer finds", () => {
    const { tokens, rules, cases } = read<Cases>("wordpieces.json");
    const vocabulary = new Map(tokens.map((token, id) => [token, id]));
    const other = cases.filter(([text, ids]) => JSON.stringify(tokenIds(text, vocabulary, rules)) !== JSON.stringify(ids));
    expect(cases.length).toBeGreaterThan(15_000);
    expect(other.map(([text]) => [...text].map((c) => c.codePointAt(0)!.toString(16)).join(" "))).toEqual([]);
  }, 60_000);
});
