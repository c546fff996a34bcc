// The current location: the part of the address after `#`, which can be linked to and survives a reload.

import { signal } from "@preact/signals";

export interface Route {
  view: string;
  rest: string[];
}

/** Parses `#/library/documents/handbook` into a view and the items that are open in it. */
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

/** The addresses of earlier versions of the page, and where their views are now. The first match counts. */
const MOVED: [string, string][] = [
  ["documents", "library/documents"],
  ["build/evals", "run/evals"],
  ["build", "library"],
  ["run/tools", "library/tools"],
];

/** Returns the current address of a view that has moved, or the address itself. */
function currentAddress(hash: string): string {
  const path = hash.replace(/^#\/?/, "");
  const moved = MOVED.find(([old]) => path === old || path.startsWith(`${old}/`));
  return moved ? `#/${moved[1]}${path.slice(moved[0].length)}` : hash;
}

/** Returns the route of the address, which is replaced if its view has moved. */
function followLocation(): Route {
  const hash = currentAddress(location.hash);
  if (hash !== location.hash) history.replaceState(null, "", hash);
  return readRoute(hash);
}

export const route = signal(followLocation());

/** Navigates to an address. With `replace`, the current entry of the history is replaced. */
export function go(hash: string, replace = false): void {
  if (replace) history.replaceState(null, "", hash);
  else if (hash !== location.hash) history.pushState(null, "", hash);
  route.value = readRoute(hash);
}

for (const event of ["hashchange", "popstate"]) {
  addEventListener(event, () => {
    route.value = followLocation();
  });
}
