/** Colouring by the 3-D density of a map with heights: four bands, each a quarter of the documents. */

import { rampColour, type Rgb, type Theme } from "./colour";

export const BANDS = "density_bands";
/** The tile column it is read from: the rank of each document's density, 0 to 255. */
export const BANDS_COLUMN = "density_3d";

/** Sparsest first. */
export const BAND_NAMES = ["Sparsest quarter", "25–50 %", "50–75 %", "Densest quarter"];

/** The band (0 to 3) of a density rank (0 to 255). */
export const bandOf = (rank: number): number => Math.min(3, rank >> 6);

export const bandColour = (band: number, theme: Theme): Rgb => rampColour(0.12 + 0.28 * band, theme);
