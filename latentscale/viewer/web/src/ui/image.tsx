/** The image of the pinned document, if the map has an image column. */

import { useState } from "preact/hooks";
import type { Document } from "../engine/generation";
import { imageAddress, type ImageAddress } from "../engine/image-address";
import * as state from "../state";
import { textOf, titleOf } from "./hover-card";
import { count, shortened } from "./words";

export function PinnedImage() {
  const document = state.pinned.value?.document;
  const column = state.manifest.value?.images?.column;
  const value = document?.values.find(([name]) => name === column)?.[1];
  if (!document || value === null || value === undefined || value === "") return null;
  const address = addressOf(value);
  return "problem" in address ? <p class="muted small">{address.problem}</p> : <Picture key={address.href} href={address.href} document={document} />;
}

function addressOf(value: unknown): ImageAddress {
  if (state.inOneFile.value) return { problem: "A page in one file makes no requests, so it shows no images." };
  return imageAddress(value, new URL("..", location.href.replace(/[?#].*$/, "")).href, state.manifest.value!.images!.origins);
}

/** In a box of fixed size, so that loading shifts nothing below. */
function Picture({ href, document }: { href: string; document: Document }) {
  const [failed, setFailed] = useState(false);
  const title = titleOf(document) || shortened(textOf(document), 120) || `document ${count(document.rowId)}`;
  return (
    <div class="picture">
      {failed ? (
        <p class="muted small">The image could not be loaded from {new URL(href).host}.</p>
      ) : (
        <img src={href} alt={`Image of ${title}`} loading="lazy" decoding="async" referrerpolicy="no-referrer" onError={() => setFailed(true)} />
      )}
    </div>
  );
}
