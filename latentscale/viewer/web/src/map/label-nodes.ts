/** A label as DOM nodes, with unbreakable words in spans. */

import { labelPieces } from "../engine/label-breaks";

export function labelNodes(label: string): (Node | string)[] {
  return labelPieces(label).map((piece, i) => {
    if (i % 2 === 0) return piece;
    const node = document.createElement("span");
    node.className = "whole";
    node.textContent = piece;
    return node;
  });
}
