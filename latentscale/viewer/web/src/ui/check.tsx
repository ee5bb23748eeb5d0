/** A checkbox bound to a Boolean signal. */

export function Check({ name, value }: { name: string; value: { value: boolean } }) {
  return (
    <label class="check">
      <input type="checkbox" checked={value.value} onChange={(event) => (value.value = event.currentTarget.checked)} />
      <span>{name}</span>
    </label>
  );
}
