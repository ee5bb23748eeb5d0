import { expect, it } from "vitest";
import { readFilter } from "../src/engine/filters";
import { compiled, patternFault } from "../src/engine/pattern-syntax";

it("a regular expression is one of JavaScript, in any case, by whole characters", () => {
  expect(compiled("^gr[aä]u.$").test("GRÄU🗺")).toBe(true);
  expect(compiled("\\d{4}").test("in 2004")).toBe(true);
  expect(patternFault("a|b")).toBeNull();
  expect(patternFault("(a")).toBe("No regular expression: unterminated group.");
  expect(patternFault("a".repeat(501))).toBe("At most 500 characters.");
  expect(readFilter("*")).toBeNull();
});
