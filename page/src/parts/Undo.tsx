// Deletions that can be undone for a few seconds: the request is sent once they have passed, or when the page closes.

import { signal } from "@preact/signals";
import { useMemo } from "preact/hooks";
import { ApiError, sentence } from "../api";
import { t } from "../words/words";
import { IconButton } from "./Icon";

const UNDO_MS = 8_000;

interface Removal {
  id: string;
  /** What was deleted, as a sentence. */
  label: string;
  send: () => Promise<unknown>;
}

const removal = signal<Removal | null>(null);
const failure = signal("");
/** The ids that lists leave out: of what is being deleted, until the lists are read again. */
export const removed = signal<ReadonlySet<string>>(new Set());
let timer = 0;

function show(id: string): void {
  removed.value = new Set([...removed.peek()].filter((each) => each !== id));
}

/** Returns a list without the rows that are being deleted. An unchanged list stays the same object. */
export function useRemaining<L extends { value: { id: string }[] | null }>(list: L): L {
  const { value } = list;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the value of the signal changes
  const rows = useMemo(
    () => value?.filter((row) => !removed.value.has(row.id)) ?? null,
    [value, removed.value],
  );
  return { ...list, value: rows };
}

/** Hides what is deleted now, and deletes it later unless that is undone. An earlier deletion is sent at once. */
export function removeLater(next: Removal): void {
  settle();
  failure.value = "";
  removed.value = new Set([...removed.peek(), next.id]);
  removal.value = next;
  timer = window.setTimeout(settle, UNDO_MS);
}

async function settle(): Promise<void> {
  clearTimeout(timer);
  const now = removal.peek();
  if (!now) return;
  removal.value = null;
  try {
    await now.send();
  } catch (error) {
    const isGone = error instanceof ApiError && error.status === 404;
    if (!isGone) failure.value = sentence(error);
  }
  show(now.id);
}

function undo(): void {
  clearTimeout(timer);
  if (removal.value) show(removal.value.id);
  removal.value = null;
}

addEventListener("pagehide", settle);

/** Says what was deleted, and undoes it. */
export function Undo() {
  const text = failure.value || removal.value?.label;
  return (
    <div class="toast" role="status" hidden={!text}>
      <span class={failure.value ? "bad" : ""}>{text}</span>
      {removal.value && (
        <button type="button" class="link" onClick={undo}>
          {t("undo")}
        </button>
      )}
      <IconButton
        icon="close"
        label={t("close")}
        onClick={() => {
          failure.value = "";
          settle();
        }}
      />
    </div>
  );
}
