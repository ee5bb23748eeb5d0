/** Two sliders on one track are the ends of a range, which is never empty. */

/** What a slider was moved to, within what its end may be; the slider is put there, too. */
export function clampSlider(slider: HTMLInputElement, least: number, most: number): number {
  const value = Math.min(most, Math.max(least, Number(slider.value)));
  slider.value = String(value);
  return value;
}
