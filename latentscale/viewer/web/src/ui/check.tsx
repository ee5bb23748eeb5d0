/** A choice of yes or no among the settings. */

export function Check({ name, value }: { name: string; value: { value: boolean } }) {
  return (
    <label class="check">
      <input type="checkbox" checked={value.value} onChange={(event) => (value.value = event.currentTarget.checked)} />
      <span>{name}</span>
    </label>
  );
}
