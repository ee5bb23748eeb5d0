import { describe, expect, it } from "vitest";
import { viewFrame, isCloseUp, overviewBox } from "../src/engine/overview";

const body = { x0: -10, y0: 0, x1: 10, y1: 10 };

describe("the picture of the whole map", () => {
  it("keeps the map's proportions and fits", () => {
    const { box, width, height } = overviewBox(body, { width: 160, height: 120 });
    expect(width).toBe(160);
    expect(height).toBe(80);
    expect(box.x0).toBeLessThan(-10);
    expect((box.x1 - box.x0) / (box.y1 - box.y0)).toBeCloseTo(2);
    expect(overviewBox({ x0: 3, y0: 0, x1: 3, y1: 50 }, { width: 160, height: 120 }).width).toBeGreaterThanOrEqual(24);
  });

  it("frames the view, the top of the map at the top, and never too small to be seen", () => {
    const size = { width: 200, height: 100 };
    const box = { x0: 0, y0: 0, x1: 20, y1: 10 };
    expect(viewFrame(box, size, { x0: 0, y0: 5, x1: 10, y1: 10 }, 6)).toEqual({ left: 0, top: 0, width: 100, height: 50, beyond: false });
    const small = viewFrame(box, size, { x0: 9.99, y0: 4.99, x1: 10.01, y1: 5.01 }, 6);
    expect(small).toEqual({ left: 97, top: 47, width: 6, height: 6, beyond: false });
  });

  it("keeps the frame at the edge past which the view lies", () => {
    const frame = viewFrame({ x0: 0, y0: 0, x1: 20, y1: 10 }, { width: 200, height: 100 }, { x0: -9, y0: 14, x1: -7, y1: 16 }, 6);
    expect(frame).toEqual({ left: 0, top: 0, width: 20, height: 20, beyond: true });
  });

  it("helps close up, and not where most of the map is in the window", () => {
    expect(isCloseUp(body, { x0: 0, y0: 0, x1: 5, y1: 3 })).toBe(true);
    expect(isCloseUp(body, { x0: -8, y0: 0, x1: 8, y1: 3 })).toBe(false);
  });
});
