/** Registry of panels and their open state. `panels.ts` lists the panels of the page. */

import { signal, type Signal } from "@preact/signals";
import type { ComponentType } from "preact";
import type { AddressState } from "../engine/address";
import type { Side } from "../engine/insets";

export interface Panel {
  /** Lower-case letters, digits and hyphens; its name in the page's address. */
  id: string;
  /** Label of its button. */
  title: string;
  /**
   * Panels of a side are stacked in the order of `panels.ts`. On a phone the right side is a bottom sheet, above the
   * bottom strip.
   */
  side: Side;
  /** Whether it is initially open; a function for a panel whose visibility follows page state instead of the user. */
  open: boolean | (() => boolean);
  Component: ComponentType;
  /**
   * Shown while it is closed, with a button that opens it and has its id as `data-opens`; without it, a toolbar button
   * opens the panel.
   */
  Closed?: ComponentType;
  /** False while there is nothing to show: it is not drawn and has no button. */
  available?: () => boolean;
  /** Path of the button's icon, on a 20 × 20 grid. */
  icon?: string;
  /** A key that toggles it, or runs `press`; listed in the help. */
  key?: { name: string; does: string; press?: () => void };
  /** Further state that the page's address keeps. */
  kept?: Signal<string>;
}

/** Keys handled by `keys.ts`. */
const RESERVED_KEYS = ["+", "=", "-", "_", "0", "3", "?", "t", "n", "p", "b", "l", "Home", "Escape", "Enter", "Tab", " "];

const registered: Panel[] = [];
const states = new Map<string, Signal<boolean>>();

/** Add a panel to the page. */
export function register(panel: Panel): void {
  // Programming errors are reported in development and tests.
  if (import.meta.env.DEV) check(panel);
  registered.push(panel);
  states.set(panel.id, signal(panel.open === true));
}

function check({ id, key }: Panel): void {
  if (!/^[a-z][a-z0-9-]*$/.test(id)) throw new Error(`The id of a panel is of lower-case letters, digits and hyphens: ${id}`);
  if (states.has(id)) throw new Error(`Two panels are called ${id}.`);
  if (key && (RESERVED_KEYS.includes(key.name) || registered.some((other) => other.key?.name === key.name)))
    throw new Error(`The key ${key.name} of the panel ${id} does something else already.`);
}

export const panels = (): readonly Panel[] => registered;

const isAvailable = (panel: Panel): boolean => panel.available?.() ?? true;

export const isOpen = (panel: Panel): boolean =>
  isAvailable(panel) && (typeof panel.open === "function" ? panel.open() : states.get(panel.id)!.value);

/** Whether the user, not page state, opens and closes it. */
const isUserToggled = (panel: Panel): boolean => typeof panel.open === "boolean";

/** Panels with a toolbar button. */
export const withButton = (): Panel[] => registered.filter((panel) => isUserToggled(panel) && !panel.Closed && isAvailable(panel));

export function setOpen(id: string, open: boolean): void {
  states.get(id)!.value = open;
}

export const toggle = (id: string): void => setOpen(id, !states.get(id)!.value);

/** Open or close a panel by a button that disappears; the focus moves to the button that replaces it. */
export function turn(id: string, open: boolean): void {
  setOpen(id, open);
  const counterpart = open ? `[data-panel="${id}"] button` : `[data-opens="${id}"]`;
  requestAnimationFrame(() => document.querySelector<HTMLElement>(counterpart)?.focus());
}

/** Close the last open panel that was not initially open; returns whether there was one. */
export function closeLast(): boolean {
  const last = registered.findLast((panel) => panel.open === false && !panel.Closed && isOpen(panel));
  if (last) turn(last.id, false);
  return last !== undefined;
}

/** State of the panels for the page's address. */
export function panelAddress(): Pick<AddressState, "panels" | "kept"> {
  const changed: string[] = [];
  const kept: Record<string, string> = {};
  for (const panel of registered) {
    const open = states.get(panel.id)!.value;
    if (isUserToggled(panel) && open !== panel.open) changed.push(open ? panel.id : `-${panel.id}`);
    if (panel.kept?.value) kept[panel.id] = panel.kept.value;
  }
  return { panels: changed, kept };
}

/** Restore panels from an address; unnamed panels get their initial state, unknown ids are ignored. */
export function restorePanels({ panels = [], kept = {} }: AddressState): void {
  for (const panel of registered) {
    const { id } = panel;
    if (isUserToggled(panel)) setOpen(id, panels.includes(id) || (panel.open === true && !panels.includes(`-${id}`)));
    if (panel.kept) panel.kept.value = kept[id] ?? "";
  }
}
