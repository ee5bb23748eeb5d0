/** Quality figures and provenance of the map. */

import type { Quality } from "../../engine/format";
import { lastSection, sectionKey } from "../../engine/sections";
import * as state from "../../state";

export const ID = "quality";
export const TITLE = "About this map";
const KEY = sectionKey<Quality>("quality", 1);

export const quality = (): Quality | null => state.index.value && lastSection(state.index.value.generations, KEY);

export const about = () => state.manifest.value?.about ?? [];
