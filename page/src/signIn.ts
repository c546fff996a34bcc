// Signing in by an issuer. The browser keeps a cookie that no script reads: all there is to know here is who that is.

import { signal } from "@preact/signals";
import { json } from "./api";
import { go } from "./route";
import type { Whoami } from "./types";

const PLACE_NAME = "portico-place";

/** The issuers by which one signs in here. */
export const issuers = signal<string[]>([]);
/** Who is signed in in this browser; null if a key is used, or nothing. */
export const person = signal<Whoami | null>(null);
/** Why one is not signed in, in a word of the daemon's; empty if nothing went wrong. */
export const refused = signal("");

interface Metadata {
  portico_sign_in?: { issuer: string; page: boolean }[];
}

export async function lookWhoCalls(locked: boolean): Promise<void> {
  person.value = null;
  const found = await json<Metadata>("/.well-known/oauth-protected-resource");
  issuers.value = (found.portico_sign_in ?? []).filter((each) => each.page).map((each) => each.issuer);
  if (!issuers.value.length || locked) return;
  const caller = await json<Whoami>("/api/whoami");
  if (caller.by === "page") person.value = caller;
}

/** Leave for an issuer, which sends the browser back to the page. */
export async function signIn(issuer: string): Promise<void> {
  refused.value = "";
  const { address } = await json<{ address: string }>("/api/sign-in", { json: { issuer } });
  sessionStorage.setItem(PLACE_NAME, location.hash);
  location.assign(address);
}

export async function signOut(): Promise<void> {
  await json("/api/sign-in", { method: "DELETE" });
  person.value = null;
}

/** Take what an issuer's answer has left in the address out of it, and go where one was before. */
export function comeBack(): void {
  refused.value = new URLSearchParams(location.search).get("sign-in") ?? "";
  const place = sessionStorage.getItem(PLACE_NAME);
  sessionStorage.removeItem(PLACE_NAME);
  if (refused.value) history.replaceState(null, "", `/${location.hash}`);
  if (place) go(place, true);
}
