/** Sections: what a feature has written into a generation under a name of its own (docs/viewer-format.md). */

import type { IndexFile } from "./format";

/** A section's name, and the version of its entry that the page reads; `T` is the entry. */
export interface SectionKey<T> {
  name: string;
  version: number;
  /** Only for the type checker. */
  readonly entry?: T;
}

export const sectionKey = <T>(name: string, version: number): SectionKey<T> => ({ name, version });

/** What a generation has under `key`: null if it has none, or one that is newer than this page. */
export function section<T>(generation: Pick<IndexFile, "sections">, key: SectionKey<T>): T | null {
  const entries = generation.sections ?? {};
  const entry = Object.hasOwn(entries, key.name) ? entries[key.name] : null;
  return entry && entry.version <= key.version ? (entry as T) : null;
}

/** The entry of the last generation that has one: right for what each update restates for the whole map. */
export function lastSection<T>(generations: readonly Pick<IndexFile, "sections">[], key: SectionKey<T>): T | null {
  for (let g = generations.length - 1; g >= 0; g--) {
    const found = section(generations[g], key);
    if (found) return found;
  }
  return null;
}
