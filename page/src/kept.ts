// Data that this browser stores: drafts, the chosen model, the language. The daemon stores conversations.

import { storageName } from "./address";

const nameOf = (name: string) => storageName(`portico.${name}`);

export function recall(name: string): string {
  return localStorage.getItem(nameOf(name)) ?? "";
}

/** Stores a text; an empty text is removed. If the storage is full, it keeps the previous text. */
export function remember(name: string, value: string): void {
  try {
    if (value) localStorage.setItem(nameOf(name), value);
    else localStorage.removeItem(nameOf(name));
  } catch {
    // Nothing depends on the stored text.
  }
}
