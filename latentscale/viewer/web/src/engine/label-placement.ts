/** Places labels at their clusters, shifted slightly to avoid window edges and panels. */

export interface LabelBox {
  /** Centre and size in px. */
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

/** px between a label and an obstacle or edge. */
const MARGIN = 6;

/**
 * The centre of each label, or null if it is hidden: its anchor is outside the window or under a panel, or it had to be
 * shifted and has no room. Earlier labels take precedence over shifted ones.
 */
export function placeLabels(
  labels: readonly LabelBox[],
  window: { width: number; height: number },
  obstacles: readonly Rect[],
): ([x: number, y: number] | null)[] {
  const placed: { rect: Rect; moved: boolean }[] = [];
  return labels.map((label) => {
    const at = clearPosition(label, window, obstacles);
    if (!at) return null;
    const moved = at[0] !== label.x || at[1] !== label.y;
    const rect = rectAt(at[0], at[1], label);
    if (placed.some((other) => (moved || other.moved) && overlap(rect, other.rect, 0))) return null;
    placed.push({ rect, moved });
    return at;
  });
}

function clearPosition(label: LabelBox, window: { width: number; height: number }, obstacles: readonly Rect[]): [number, number] | null {
  let { x, y } = label;
  const { width, height } = label;
  if (x < 0 || y < 0 || x > window.width || y > window.height) return null;
  const clampToWindow = (): void => {
    x = Math.min(Math.max(x, width / 2 + MARGIN), Math.max(window.width - width / 2 - MARGIN, width / 2 + MARGIN));
    y = Math.min(Math.max(y, height / 2 + MARGIN), Math.max(window.height - height / 2 - MARGIN, height / 2 + MARGIN));
  };
  clampToWindow();
  for (const obstacle of obstacles) {
    if (label.x > obstacle.left && label.x < obstacle.right && label.y > obstacle.top && label.y < obstacle.bottom) return null;
    const box = rectAt(x, y, label);
    if (!overlap(box, obstacle, MARGIN)) continue;
    const shifts: [dx: number, dy: number][] = [
      [obstacle.right + MARGIN - box.left, 0],
      [obstacle.left - MARGIN - box.right, 0],
      [0, obstacle.bottom + MARGIN - box.top],
      [0, obstacle.top - MARGIN - box.bottom],
    ];
    const [dx, dy] = shifts.reduce((best, way) => (Math.hypot(...way) < Math.hypot(...best) ? way : best));
    x += dx;
    y += dy;
  }
  const [left, top] = [x, y];
  clampToWindow();
  const box = rectAt(x, y, label);
  // Pushed out of the window, or under another panel.
  if (x !== left || y !== top || obstacles.some((wall) => overlap(box, wall, MARGIN - 1))) return null;
  return [x, y];
}

const rectAt = (x: number, y: number, { width, height }: LabelBox): Rect => ({
  left: x - width / 2,
  top: y - height / 2,
  right: x + width / 2,
  bottom: y + height / 2,
});

const overlap = (a: Rect, b: Rect, air: number): boolean =>
  a.left < b.right + air && a.right > b.left - air && a.top < b.bottom + air && a.bottom > b.top - air;
