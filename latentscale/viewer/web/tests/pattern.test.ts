import { expect, it } from "vitest";
import { readFilter } from "../src/engine/filters";
import { compilePattern, patternError } from "../src/engine/pattern-syntax";

it("a regular expression is one of JavaScript, in any case, by whole characters", () => {
  expect(compilePattern("^gr[aä]u.$").test("GRÄU🗺")).toBe(true);
  expect(compilePattern("\\d{4}").test("in 2004")).toBe(true);
  expect(patternError("a|b")).toBeNull();
  expect(patternError("(a")).toBe("Invalid regular expression: unterminated group.");
  expect(patternError("a".repeat(501))).toBe("At most 500 characters.");
  expect(readFilter("*")).toBeNull();
});
