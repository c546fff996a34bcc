// What this browser remembers of the reader: drafts, the chosen model, the language. Conversations are the daemon's.

const PREFIX = "portico.";

export function recall(name: string): string {
  return localStorage.getItem(PREFIX + name) ?? "";
}

/** Remember a text; an empty one is forgotten. A browser that is full keeps what it has. */
export function remember(name: string, value: string): void {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Nothing depends on it.
  }
}
