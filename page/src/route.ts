// The current location: the part of the address after `#`, which can be linked to and survives a reload.

import { signal } from "@preact/signals";

export interface Route {
  view: string;
  rest: string[];
}

/** Parses `#/documents/handbook/file-1` into a view and the items that are open in it. */
export function readRoute(hash: string): Route {
  const [view = "", ...rest] = hash.replace(/^#\/?/, "").split("/").map(decode);
  return { view: view || "chat", rest: rest.filter(Boolean) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function link(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export const route = signal(readRoute(location.hash));

/** Navigates to an address. With `replace`, the current entry of the history is replaced. */
export function go(hash: string, replace = false): void {
  if (replace) history.replaceState(null, "", hash);
  else if (hash !== location.hash) history.pushState(null, "", hash);
  route.value = readRoute(hash);
}

addEventListener("hashchange", () => {
  route.value = readRoute(location.hash);
});
addEventListener("popstate", () => {
  route.value = readRoute(location.hash);
});
