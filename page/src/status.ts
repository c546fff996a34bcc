// What the daemon has, looked at every few seconds while the page is seen.

import { signal } from "@preact/signals";
import { ApiError, json, key, rows, sentence } from "./api";
import type { App, Status } from "./types";

const POLL_INTERVAL_MS = 5_000;

export const status = signal<Status | null>(null);
export const apps = signal<App[]>([]);
/** Why the daemon cannot be asked; empty if it can. */
export const trouble = signal("");
/** Whether it wants a key that it has not got. */
export const locked = signal(false);

export async function refresh(): Promise<void> {
  try {
    const [now, listed] = await Promise.all([json<Status>("/api/status"), rows<App>("/api/apps")]);
    if (JSON.stringify(now) !== JSON.stringify(status.peek())) status.value = now;
    if (JSON.stringify(listed) !== JSON.stringify(apps.peek())) apps.value = listed;
    locked.value = false;
    trouble.value = "";
  } catch (error) {
    locked.value = error instanceof ApiError && error.status === 401;
    trouble.value = locked.value && !key.peek() ? "" : sentence(error);
  }
}

export function watchStatus(): void {
  refresh();
  setInterval(() => {
    if (!document.hidden) refresh();
  }, POLL_INTERVAL_MS);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
}

/** The first model of a task, if there is one. */
export function modelFor(task: string): string | undefined {
  return status.value?.models.find((model) => model.task === task)?.name;
}

export type Doing = "chat" | "image" | "speech";

/** Something to talk to: an app or an agent, or a model by what it does. */
export interface Target {
  name: string;
  kind: "agent" | "flow" | "store" | "model";
  does: Doing;
}

/** All that can be talked to, apps first. */
export function targets(): Target[] {
  const found: Target[] = apps.value.map((app) => ({
    name: app.name,
    kind: app.kind,
    does: "chat" as const,
  }));
  for (const does of ["chat", "image", "speech"] as const) {
    for (const model of status.value?.models ?? []) {
      if (model.task === does) found.push({ name: model.name, kind: "model", does });
    }
  }
  return found;
}

export function isAgent(name: string): boolean {
  return apps.value.some((app) => app.name === name && app.kind === "agent");
}
