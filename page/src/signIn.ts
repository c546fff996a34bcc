// Sign-in through an issuer. The browser stores a cookie that scripts cannot read, so the page only knows the user.

import { signal } from "@preact/signals";
import { addressOf, storageName } from "./address";
import { json } from "./api";
import { go } from "./route";
import type { Whoami } from "./types";

/** The path of the page on which a person answers an OAuth client. */
export const CONSENT = "/authorize";

const PLACE_NAME = storageName("portico-place");

/** Returns whether this page is the page of consent. */
export const isConsent = () => location.pathname === new URL(addressOf(CONSENT)).pathname;

/** The issuers that users can sign in with. */
export const issuers = signal<string[]>([]);
/** The signed-in user of this browser, or null if a key or nothing is used. */
export const person = signal<Whoami | null>(null);
/** The daemon's code for why the user is not signed in, or an empty string. */
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

/** Navigates to an issuer, which redirects the browser back to the page. */
export async function signIn(issuer: string): Promise<void> {
  refused.value = "";
  const { address } = await json<{ address: string }>("/api/sign-in", { json: { issuer } });
  sessionStorage.setItem(PLACE_NAME, isConsent() ? CONSENT + location.search : location.hash);
  location.assign(address);
}

export async function signOut(): Promise<void> {
  await json("/api/sign-in", { method: "DELETE" });
  person.value = null;
}

/** Removes the issuer's response from the address, and returns to the previous location. */
export function comeBack(): void {
  refused.value = new URLSearchParams(location.search).get("sign-in") ?? "";
  const place = sessionStorage.getItem(PLACE_NAME);
  sessionStorage.removeItem(PLACE_NAME);
  if (refused.value) history.replaceState(null, "", addressOf(`/${location.hash}`));
  if (place?.startsWith(`${CONSENT}?`)) location.replace(addressOf(place));
  else if (place) go(place, true);
}
