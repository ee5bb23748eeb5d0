/** Label placement on the screen: at their clusters, moved a little so that no edge or panel cuts them. */

export interface LabelBox {
  /** Centre, and size, in px. */
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Rect {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** Air between a label and what must not cut it. */
const AIR = 6;

/**
 * The centre of each label, or null where it is not shown: its position is off the window or under a panel, or the label
 * had to move and has no room. Earlier labels come first: a label gives way to an earlier one that was moved.
 */
export function placeLabels(
  labels: readonly LabelBox[],
  window: { width: number; height: number },
  obstacles: readonly Rect[],
): ([x: number, y: number] | null)[] {
  const placed: { rect: Rect; moved: boolean }[] = [];
  return labels.map((label) => {
    const at = clearOf(label, window, obstacles);
    if (!at) return null;
    const moved = at[0] !== label.x || at[1] !== label.y;
    const rect = around(at[0], at[1], label);
    if (placed.some((other) => (moved || other.moved) && overlap(rect, other.rect, 0))) return null;
    placed.push({ rect, moved });
    return at;
  });
}

function clearOf(label: LabelBox, window: { width: number; height: number }, obstacles: readonly Rect[]): [number, number] | null {
  let { x, y } = label;
  const { width, height } = label;
  if (x < 0 || y < 0 || x > window.width || y > window.height) return null;
  const inside = (): void => {
    x = Math.min(Math.max(x, width / 2 + AIR), Math.max(window.width - width / 2 - AIR, width / 2 + AIR));
    y = Math.min(Math.max(y, height / 2 + AIR), Math.max(window.height - height / 2 - AIR, height / 2 + AIR));
  };
  inside();
  for (const wall of obstacles) {
    if (label.x > wall.left && label.x < wall.right && label.y > wall.top && label.y < wall.bottom) return null;
    const box = around(x, y, label);
    if (!overlap(box, wall, AIR)) continue;
    const ways: [dx: number, dy: number][] = [
      [wall.right + AIR - box.left, 0],
      [wall.left - AIR - box.right, 0],
      [0, wall.bottom + AIR - box.top],
      [0, wall.top - AIR - box.bottom],
    ];
    const [dx, dy] = ways.reduce((best, way) => (Math.hypot(...way) < Math.hypot(...best) ? way : best));
    x += dx;
    y += dy;
  }
  const [left, top] = [x, y];
  inside();
  const box = around(x, y, label);
  // Pushed out of the window, or from one panel under another.
  if (x !== left || y !== top || obstacles.some((wall) => overlap(box, wall, AIR - 1))) return null;
  return [x, y];
}

const around = (x: number, y: number, { width, height }: LabelBox): Rect => ({
  left: x - width / 2,
  top: y - height / 2,
  right: x + width / 2,
  bottom: y + height / 2,
});

const overlap = (a: Rect, b: Rect, air: number): boolean =>
  a.left < b.right + air && a.right > b.left - air && a.top < b.bottom + air && a.bottom > b.top - air;
