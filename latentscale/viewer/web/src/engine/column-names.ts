/** Columns and categories in an address are named, since ids and codes change with each publication. */

import type { ColourColumn } from "./format";
import { ADDED } from "./merge";

/** A colouring as written in an address. */
export function colourName(colour: string, columns: readonly ColourColumn[]): string {
  const column = columns.find(({ id }) => id === colour);
  return column && column.id !== ADDED ? `@${column.name}` : colour;
}

/** The colouring that an address names; null if the map has no such column. Links of early versions contain ids. */
export function colourFromName(name: string, columns: readonly ColourColumn[]): string | null {
  const column = name.startsWith("@") ? columns.find((one) => one.name === name.slice(1)) : columns.find(({ id }) => id === name);
  if (column) return column.id;
  return /^(cluster|layer:\d+|nearest_cluster|density|density_bands)$/.test(name) ? name : null;
}

/** Category codes as written in an address. */
export function categoryNames(codes: Iterable<number>, column: ColourColumn | null): string[] {
  const named = column?.kind === "categories" && column.id !== ADDED ? column.categories : [];
  return [...codes].map((code) => (named[code] ? `@${named[code][0]}` : String(code)));
}

/** Category codes of names in an address; names that the column does not have are dropped. */
export function categoryCodes(names: readonly string[], column: ColourColumn | null): number[] {
  if (column?.kind !== "categories") return [];
  const codes = names.map((name) =>
    name.startsWith("@") ? column.categories.findIndex(([category]) => category === name.slice(1)) : Number(name),
  );
  return codes.filter((code) => code >= 0);
}
