/** Renders the map as a picture: canvas, labels and title. */

import { GROUND, css } from "../../engine/colour";
import * as state from "../../state";
import { plural } from "../words";

/** Margin of the title in px. */
const MARGIN = 18;
/** Bottom of the two title lines in px. */
const BELOW_TITLE = 64;

/** The map as a PNG. Throws if the browser cannot encode it. */
export async function drawPicture(): Promise<Blob> {
  const map = document.getElementById("canvas") as HTMLCanvasElement;
  const frame = map.getBoundingClientRect();
  const scale = map.width / frame.width;
  const picture = document.createElement("canvas");
  picture.width = map.width;
  picture.height = map.height;
  const context = picture.getContext("2d")!;
  context.fillStyle = css(GROUND[state.theme.value]);
  context.fillRect(0, 0, picture.width, picture.height);
  context.scale(scale, scale);
  const raster = document.querySelector<HTMLCanvasElement>(".raster:not([hidden])");
  if (raster) {
    const { left, top, width, height } = raster.getBoundingClientRect();
    context.globalAlpha = Number(raster.style.opacity);
    context.drawImage(raster, left - frame.left, top - frame.top, width, height);
    context.globalAlpha = 1;
  }
  context.drawImage(map, 0, 0, frame.width, frame.height);
  context.textBaseline = "middle";
  context.lineJoin = "round";
  const page = getComputedStyle(document.body);
  const { title } = state.manifest.value!;
  const column = state.colour.value === "cluster" ? "" : ` · coloured by ${state.column.value?.name ?? state.colour.value.replace(/[_:]/g, " ")}`;
  const corner = Math.max(
    drawCaption(context, title, MARGIN, MARGIN + 10, `650 20px ${page.fontFamily}`, page.color),
    drawCaption(context, `${plural(state.documents.value, "document")}${column}`, MARGIN, MARGIN + 33, `13px ${page.fontFamily}`, page.color),
  );
  for (const label of document.querySelectorAll<HTMLElement>("#labels .label:not(.hidden)")) {
    const { left, right, top, bottom } = label.getBoundingClientRect();
    // Labels under the title are skipped.
    if (left - frame.left < corner && top - frame.top < BELOW_TITLE) continue;
    const style = getComputedStyle(label);
    context.globalAlpha = Number(style.opacity);
    drawLabel(context, label.textContent ?? "", (left + right) / 2 - frame.left, (top + bottom) / 2 - frame.top, style, right - left);
  }
  return new Promise((done, failed) =>
    picture.toBlob((blob) => (blob ? done(blob) : failed(new Error("The browser could not make a picture of the map."))), "image/png"),
  );
}

/** Draw a label, wrapped to its width on the page, around its centre. */
function drawLabel(context: CanvasRenderingContext2D, text: string, x: number, y: number, style: CSSStyleDeclaration, width: number): void {
  context.font = `${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
  context.letterSpacing = style.letterSpacing === "normal" ? "0px" : style.letterSpacing;
  context.textAlign = "center";
  const lines: string[] = [];
  for (const word of text.split(/\s+/)) {
    const line = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && context.measureText(line).width <= width) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  const height = 1.18 * parseFloat(style.fontSize);
  lines.forEach((line, i) => drawOutlinedText(context, line, x, y + (i - (lines.length - 1) / 2) * height, style.color));
}

/** Draw a line of the title; returns its right end. */
function drawCaption(context: CanvasRenderingContext2D, text: string, x: number, y: number, font: string, colour: string): number {
  context.font = font;
  context.textAlign = "left";
  drawOutlinedText(context, text, x, y, colour);
  return x + context.measureText(text).width;
}

function drawOutlinedText(context: CanvasRenderingContext2D, text: string, x: number, y: number, colour: string): void {
  context.strokeStyle = css(GROUND[state.theme.value], 0.84);
  context.lineWidth = 3.5;
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}
