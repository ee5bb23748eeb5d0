import { expect, it } from "vitest";
import { readAddress, writeAddress } from "../src/engine/address";
import type { NumberColumn } from "../src/engine/format";
import { sizeFactorOf, isLogarithmic, MIN_FACTOR, scaleMiddle, MAX_FACTOR } from "../src/engine/size-scale";

const column = (min: number, max: number, quantiles = [min, max]): NumberColumn => ({ id: "c", name: "n", kind: "numbers", min, max, quantiles, nulls: 0 });

it("the area of a point grows evenly with its value", () => {
  const grown = sizeFactorOf(column(-10, 30));
  expect([grown(-10), grown(30)]).toEqual([MIN_FACTOR, MAX_FACTOR]);
  expect(grown(10) ** 2).toBeCloseTo((MIN_FACTOR ** 2 + MAX_FACTOR ** 2) / 2);
  expect(grown(NaN)).toBe(MIN_FACTOR);
  expect(grown(99)).toBe(MAX_FACTOR);
  expect(sizeFactorOf(column(5, 5))(5)).toBeGreaterThan(MIN_FACTOR);
});

it("or with its logarithm, where the range is wide", () => {
  expect([column(1, 99), column(1, 100), column(-1, 1e6), column(0, 1e6, [0, 0, 3, 1e6]), column(0, 50, [0, 1, 50]), column(0, 0)].map(isLogarithmic)).toEqual([false, true, false, true, false, false]);
  const wide = column(1, 10_000);
  expect(sizeFactorOf(wide)(scaleMiddle(wide)) ** 2).toBeCloseTo((MIN_FACTOR ** 2 + MAX_FACTOR ** 2) / 2);
  expect(scaleMiddle(wide)).toBeCloseTo(100);
  const counts = column(0, 999, [0, 0, 1, 999]);
  expect(sizeFactorOf(counts)(0)).toBe(MIN_FACTOR);
  expect(sizeFactorOf(counts)(999)).toBe(MAX_FACTOR);
  expect(sizeFactorOf(counts)(scaleMiddle(counts)) ** 2).toBeCloseTo((MIN_FACTOR ** 2 + MAX_FACTOR ** 2) / 2);
});

it("is in the address", () => {
  expect(writeAddress({ sizeBy: "@a & b" })).toBe("#w=%40a%20%26%20b");
  expect(readAddress("#w=%40a%20%26%20b").sizeBy).toBe("@a & b");
  expect(readAddress("#w=c3").sizeBy).toBeUndefined();
});
