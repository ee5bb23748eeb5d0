/** What a panel is, which there are, and which are open. `panels.ts` lists those of the page. */

import { signal, type Signal } from "@preact/signals";
import type { ComponentType } from "preact";
import type { AddressState } from "../engine/address";
import type { Side } from "../engine/insets";

export interface Panel {
  /** Lower-case letters, digits and hyphens: its name in the page's address. */
  id: string;
  /** Its name on the button and in the help. */
  title: string;
  /** Panels of a side stand below each other in the order of `panels.ts`; on a phone the right side is a sheet at the bottom, above the strip there. */
  side: Side;
  /** Whether it is open at first; or when it is, for one that follows the page and that the user does not open or close. */
  open: boolean | (() => boolean);
  Component: ComponentType;
  /**
   * Shown in its place while it is closed, with a button that opens it and has its id as `data-opens`; without it, a
   * button of the toolbar opens it.
   */
  Closed?: ComponentType;
  /** False while there is nothing to show: then it has no button, and is not drawn. */
  available?: () => boolean;
  /** The path of the button's icon, in a square of 20. */
  icon?: string;
  /** A key that opens and closes it, or does what `press` does. */
  key?: { name: string; does: string; press?: () => void };
  /** What of it the page's address keeps besides whether it is open. */
  kept?: Signal<string>;
}

/** What `keys.ts` answers to. */
const RESERVED_KEYS = ["+", "=", "-", "_", "0", "3", "?", "t", "n", "p", "b", "l", "Home", "Escape", "Enter", "Tab", " "];

const all: Panel[] = [];
const states = new Map<string, Signal<boolean>>();

export function register(panel: Panel): void {
  // A mistake in a panel: reported when the page is developed and tested.
  if (import.meta.env.DEV) check(panel);
  all.push(panel);
  states.set(panel.id, signal(panel.open === true));
}

function check({ id, key }: Panel): void {
  if (!/^[a-z][a-z0-9-]*$/.test(id)) throw new Error(`The id of a panel is of lower-case letters, digits and hyphens: ${id}`);
  if (states.has(id)) throw new Error(`Two panels are called ${id}.`);
  if (key && (RESERVED_KEYS.includes(key.name) || all.some((other) => other.key?.name === key.name)))
    throw new Error(`The key ${key.name} of the panel ${id} does something else already.`);
}

export const panels = (): readonly Panel[] => all;

const isAvailable = (panel: Panel): boolean => panel.available?.() ?? true;

export const isOpen = (panel: Panel): boolean =>
  isAvailable(panel) && (typeof panel.open === "function" ? panel.open() : states.get(panel.id)!.value);

/** Whether the user opens and closes it. */
const isUserToggled = (panel: Panel): boolean => typeof panel.open === "boolean";

/** Panels that a button of the toolbar opens. */
export const withButton = (): Panel[] => all.filter((panel) => isUserToggled(panel) && !panel.Closed && isAvailable(panel));

export function setOpen(id: string, open: boolean): void {
  states.get(id)!.value = open;
}

export const toggle = (id: string): void => setOpen(id, !states.get(id)!.value);

/** Open or close by a button that goes with it: its counterpart takes the focus. */
export function turn(id: string, open: boolean): void {
  setOpen(id, open);
  const counterpart = open ? `[data-panel="${id}"] button` : `[data-opens="${id}"]`;
  requestAnimationFrame(() => document.querySelector<HTMLElement>(counterpart)?.focus());
}

/** Close the last panel that was not open at first; whether there was one. */
export function closeLast(): boolean {
  const last = all.findLast((panel) => panel.open === false && !panel.Closed && isOpen(panel));
  if (last) turn(last.id, false);
  return last !== undefined;
}

/** The panels' part of the page's address. */
export function panelAddress(): Pick<AddressState, "panels" | "kept"> {
  const changed: string[] = [];
  const kept: Record<string, string> = {};
  for (const panel of all) {
    const open = states.get(panel.id)!.value;
    if (isUserToggled(panel) && open !== panel.open) changed.push(open ? panel.id : `-${panel.id}`);
    if (panel.kept?.value) kept[panel.id] = panel.kept.value;
  }
  return { panels: changed, kept };
}

/** What an address does not name is as at first; ids that this page does not know are left alone. */
export function restorePanels({ panels = [], kept = {} }: AddressState): void {
  for (const panel of all) {
    const { id } = panel;
    if (isUserToggled(panel)) setOpen(id, panels.includes(id) || (panel.open === true && !panels.includes(`-${id}`)));
    if (panel.kept) panel.kept.value = kept[id] ?? "";
  }
}
