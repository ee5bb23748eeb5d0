/** Two sliders on one track form a non-empty range. */

/** Clamp a slider's value to its allowed range, and move the slider there. */
export function clampSlider(slider: HTMLInputElement, least: number, most: number): number {
  const value = Math.min(most, Math.max(least, Number(slider.value)));
  slider.value = String(value);
  return value;
}
