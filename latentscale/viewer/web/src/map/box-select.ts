/** A box drawn over the map with Shift and the pointer: what lies in it is selected. */

/** A box of fewer pixels is a click. */
const LEAST = 4;

export type Corner = [left: number, top: number];

/** Listen on the element that holds the canvas, before the canvas does: the map must not move with the pointer. */
export function listenForBox(stage: HTMLElement, canvas: HTMLCanvasElement, select: (from: Corner, to: Corner) => void): () => void {
  let from: Corner | null = null;
  let frame: HTMLElement | null = null;
  const end = (): void => {
    from = null;
    frame?.remove();
    frame = null;
    removeEventListener("pointermove", move, true);
    removeEventListener("pointerup", up, true);
    removeEventListener("pointercancel", end, true);
  };
  const at = (event: PointerEvent): Corner => {
    const { left, top } = canvas.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  };
  const move = (event: PointerEvent): void => {
    event.stopPropagation();
    const [left, top] = at(event);
    const [x, y] = from!;
    if (!frame) {
      frame = document.createElement("div");
      frame.className = "selection";
      stage.append(frame);
    }
    Object.assign(frame.style, {
      left: `${Math.min(x, left)}px`,
      top: `${Math.min(y, top)}px`,
      width: `${Math.abs(left - x)}px`,
      height: `${Math.abs(top - y)}px`,
    });
  };
  const up = (event: PointerEvent): void => {
    event.stopPropagation();
    const to = at(event);
    const start = from!;
    end();
    if (Math.abs(to[0] - start[0]) > LEAST && Math.abs(to[1] - start[1]) > LEAST) select(start, to);
  };
  const down = (event: PointerEvent): void => {
    if (!event.shiftKey || event.button !== 0 || event.target !== canvas) return;
    event.stopPropagation();
    event.preventDefault();
    from = at(event);
    addEventListener("pointermove", move, true);
    addEventListener("pointerup", up, true);
    addEventListener("pointercancel", end, true);
  };
  stage.addEventListener("pointerdown", down, true);
  return () => {
    end();
    stage.removeEventListener("pointerdown", down, true);
  };
}
