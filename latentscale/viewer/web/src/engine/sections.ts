/** Sections: data of optional features in a generation, each under its own name (docs/viewer-format.md). */

import type { IndexFile } from "./format";

/** Name of a section and the entry version that the page supports; `T` is the entry's type. */
export interface SectionKey<T> {
  name: string;
  version: number;
  /** Phantom field that carries `T`; never set. */
  readonly entry?: T;
}

export const sectionKey = <T>(name: string, version: number): SectionKey<T> => ({ name, version });

/** The entry of a section; null if it is absent or newer than this page. */
export function section<T>(generation: Pick<IndexFile, "sections">, key: SectionKey<T>): T | null {
  const entries = generation.sections ?? {};
  const entry = Object.hasOwn(entries, key.name) ? entries[key.name] : null;
  return entry && entry.version <= key.version ? (entry as T) : null;
}

/** The entry of the last generation that has one, for sections that each update restates for the whole map. */
export function lastSection<T>(generations: readonly Pick<IndexFile, "sections">[], key: SectionKey<T>): T | null {
  for (let g = generations.length - 1; g >= 0; g--) {
    const found = section(generations[g], key);
    if (found) return found;
  }
  return null;
}
