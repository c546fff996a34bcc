// Data that this browser stores: drafts, the chosen model, the language. The daemon stores conversations.

const PREFIX = "portico.";

export function recall(name: string): string {
  return localStorage.getItem(PREFIX + name) ?? "";
}

/** Stores a text; an empty text is removed. If the storage is full, it keeps the previous text. */
export function remember(name: string, value: string): void {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Nothing depends on the stored text.
  }
}
