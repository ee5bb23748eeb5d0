/** A labelled slider. */

export function Slider({ name, value, from, to, set }: { name: string; value: number; from: number; to: number; set(v: number): void }) {
  return (
    <label class="slider">
      <span>{name}</span>
      <input type="range" min={from} max={to} step={0.05} value={value} onInput={(event) => set(Number(event.currentTarget.value))} />
    </label>
  );
}
