// The states of searches over settings, of their trials, and of improvements.

import { t } from "../words/words";

const STATES = {
  queued: "runs.queued",
  in_progress: "runs.running",
  completed: "runs.completed",
  stopped: "searches.stopped",
  canceled: "runs.cancelled",
  failed: "runs.failed",
} as const;

export function stateOf({ status }: { status: string }): string {
  return t(STATES[status as keyof typeof STATES]);
}

export function isWorking({ status }: { status: string }): boolean {
  return status === "queued" || status === "in_progress";
}
