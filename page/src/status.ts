// The state of the daemon, polled every few seconds while the page is visible.

import { type Signal, signal } from "@preact/signals";
import { ApiError, everyRow, json, key, type ListPage, rows, sentence, takeOverKey } from "./api";
import { lookWhoCalls, refused } from "./signIn";
import type { App, Model, Status, Store } from "./types";

const POLL_INTERVAL_MS = 5_000;
/** Time after which lists are loaded again although no name has changed. */
const LIST_INTERVAL_MS = 60_000;
const MAX_STORES = 10_000;
const TAGGED = { cache: "no-cache" } as const;

export const status = signal<Status | null>(null);
export const apps = signal<App[]>([]);
/** Names for the `model` field: deployments, fine-tuned models, aliases, apps. */
export const served = signal<Model[]>([]);
/** Why the daemon cannot be reached, or an empty string. */
export const trouble = signal("");
/** Whether the daemon requires a key that is missing or wrong. Polling stops until there is another key. */
export const locked = signal(false);

/** What the lists were loaded for: the key, and the daemon's names at that time. */
let listedFor = "";
let listedAt = 0;
/** All stores, if the status names only the newest. */
let stores: Store[] = [];

/** The key that was last used to ask for the caller, or null. */
let askedWith: string | null = null;

/** Loads the status, and the lists of names unless they are unchanged. `anew` loads all of them. */
export async function refresh(anew = true): Promise<void> {
  try {
    const [now, early] = await Promise.all([json<Status>("/api/status", TAGGED), anew ? loadNames() : null]);
    const wanted = JSON.stringify([key.peek(), now.names]);
    const isOld = anew || wanted !== listedFor || Date.now() - listedAt > LIST_INTERVAL_MS;
    const names = early ?? (isOld ? await loadNames() : null);
    if (isOld) {
      stores = (now.store_count ?? 0) > now.stores.length ? await loadStores() : [];
      listedFor = wanted;
      listedAt = Date.now();
    }
    const newest = new Map(now.stores.map((store) => [store.id, store]));
    const older = stores.map((store) => newest.get(store.id) ?? store);
    // Both are shown at once: a chat begins with the first app that the status names.
    update(status, { ...now, stores: stores.length ? older : now.stores });
    if (names) {
      update(apps, names.apps);
      update(served, names.models);
    }
    locked.value = false;
    trouble.value = "";
  } catch (error) {
    locked.value = error instanceof ApiError && error.status === 401 && error.code !== "proxy";
    const ended = error instanceof ApiError && error.code === "sign_in_ended";
    if (ended) refused.value ||= "ended";
    // A daemon without keys refuses what a proxy forwards. Its message says what to do; a missing key needs none.
    const needsWords = /trust_local_proxy/.test(sentence(error));
    trouble.value = locked.value && (ended || !(key.peek() || needsWords)) ? "" : sentence(error);
    if (ended) askedWith = null;
  }
  if (askedWith !== key.peek() && (locked.value || !trouble.value)) {
    askedWith = key.peek();
    await lookWhoCalls(locked.value).catch(() => undefined); // if it fails, a key is in use and nobody can sign out
  }
}

function update<T>(shown: Signal<T>, value: T): void {
  if (JSON.stringify(value) !== JSON.stringify(shown.peek())) shown.value = value;
}

async function loadNames(): Promise<{ apps: App[]; models: Model[] }> {
  const [apps, models] = await Promise.all([
    rows<App>("/api/apps", TAGGED),
    rows<Model>("/v1/models", TAGGED),
  ]);
  return { apps, models };
}

function loadStores(): Promise<Store[]> {
  return everyRow(MAX_STORES, (after) => json<ListPage<Store>>(`/api/stores?limit=1000${after}`, TAGGED));
}

export function watchStatus(): void {
  refresh();
  setInterval(() => {
    if (!document.hidden && !locked.peek()) refresh(false);
  }, POLL_INTERVAL_MS);
  addEventListener("storage", (event) => {
    if (takeOverKey(event)) refresh();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
}

/** Returns the first model for a task, if there is one. */
export function modelFor(task: string): string | undefined {
  return status.value?.models.find((model) => model.task === task)?.name;
}

export type AppKind = "agent" | "flow" | "store";

export type Doing = "chat" | "image" | "speech";

/** A target of a conversation: an app, an agent, or a model with its task. */
export interface Target {
  name: string;
  kind: AppKind | "model";
  does: Doing;
  /** Other names, such as `default`. */
  aliases?: string[];
}

/** Returns all targets, apps first. */
export function targets(): Target[] {
  const deployed = status.value?.models ?? [];
  const known = new Set(deployed.map((model) => model.name));
  const trained = served.value.filter(
    (each) =>
      each.kind === "model" && !each.alias_of && !known.has(each.id) && each.capabilities.includes("chat"),
  );
  const model = (name: string, does: Doing): Target => ({
    name,
    kind: "model",
    does,
    aliases: aliasesOf(name),
  });
  const doing = (does: Doing) =>
    deployed.filter((each) => each.task === does).map((each) => model(each.name, does));
  return [
    ...apps.value.map((app): Target => ({ name: app.name, kind: app.kind as AppKind, does: "chat" })),
    ...doing("chat"),
    ...trained.map((each) => model(each.id, "chat")),
    ...doing("image"),
    ...doing("speech"),
  ];
}

/** Returns the aliases of a model, except those of its checkpoints. */
export function aliasesOf(name: string): string[] {
  const others = served.value.filter((each) => each.alias_of === name && !each.id.startsWith(`${name}:`));
  return others.map((each) => each.id);
}

export function isAgent(name: string): boolean {
  return apps.value.some((app) => app.name === name && app.kind === "agent");
}
