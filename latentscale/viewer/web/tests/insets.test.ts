import { describe, expect, it } from "vitest";
import { buttonInset, insetsOf, type Obstacle } from "../src/engine/insets";

const wide = { width: 1200, height: 800 };
const phone = { width: 390, height: 780 };
const cover = (left: number, top: number, right: number, bottom: number, side: Obstacle["side"], panel = true): Obstacle => ({ left, top, right, bottom, side, panel });
const buttons = cover(1144, 16, 1184, 154, "right", false);

describe("the free part of the window", () => {
  it("is beside panels of any width", () => {
    expect(insetsOf(wide, [])).toEqual({ left: 20, right: 20, top: 36, bottom: 48 });
    expect(insetsOf(wide, [cover(16, 16, 320, 500, "left"), buttons])).toMatchObject({ left: 340, right: 76 });
    expect(insetsOf(wide, [cover(16, 16, 516, 500, "left")]).left).toBe(536);
  });

  it("leaves room for the buttons beside a panel before they have moved", () => {
    const panel = cover(820, 16, 1184, 500, "right");
    expect(buttonInset(wide, [panel, buttons])).toBe(392);
    expect(insetsOf(wide, [panel, buttons]).right).toBe(392 + 40 + 20);
    expect(insetsOf(wide, [panel, { ...buttons, left: 768, right: 808 }]).right).toBe(392 + 40 + 20);
    expect(buttonInset(wide, [buttons])).toBeNull();
  });

  it("is above a sheet on a phone, whose list may cover the map", () => {
    expect(insetsOf(phone, [{ ...buttons, left: 334, right: 374 }])).toEqual({ left: 20, right: 20, top: 72, bottom: 48 });
    expect(insetsOf(phone, [cover(8, 500, 382, 772, "right")]).bottom).toBe(300);
    expect(insetsOf(phone, [cover(8, 8, 382, 476, "left")])).toEqual({ left: 20, right: 20, top: 72, bottom: 48 });
    expect(buttonInset(phone, [cover(8, 500, 382, 772, "right")])).toBeNull();
  });

  it("is above a strip at the bottom, however wide", () => {
    expect(insetsOf(wide, [cover(336, 546, 1184, 752, "bottom")])).toEqual({ ...insetsOf(wide, []), bottom: wide.height - 546 + 20 });
    expect(insetsOf(phone, [cover(8, 580, 382, 836, "bottom")]).bottom).toBe(phone.height - 580 + 20);
  });

  it("is not less for what only labels keep clear of", () => {
    expect(insetsOf(wide, [cover(900, 770, 1184, 790, null, false), cover(16, 16, 300, 54, null, false)])).toEqual(insetsOf(wide, []));
  });
});
