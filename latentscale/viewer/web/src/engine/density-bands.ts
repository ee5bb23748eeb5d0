/** Density in space in four bands of as many documents each, of a map that has heights. */

import { rampColour, type Rgb, type Theme } from "./colour";

export const BANDS = "density_bands";
/** The column of tiles that it is read from: the rank of each document's density, of 256. */
export const BANDS_COLUMN = "density_3d";

/** The sparsest first. */
export const BAND_NAMES = ["Sparsest quarter", "25–50 %", "50–75 %", "Densest quarter"];

export const bandOf = (rank: number): number => Math.min(3, rank >> 6);

export const bandColour = (band: number, theme: Theme): Rgb => rampColour(0.12 + 0.28 * band, theme);
