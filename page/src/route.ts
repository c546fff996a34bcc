// Where the reader is: the part of the address behind `#`, which can be linked to and survives a reload.

import { signal } from "@preact/signals";

export interface Route {
  view: string;
  rest: string[];
}

/** `#/documents/handbook/file-1` as a view and what is open in it. */
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

/** Go there. With `replace`, the way back skips where one is now. */
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
