// Documents of a conversation. They have their own store, which the model searches and which is deleted with them.

import { json, part, rows } from "../api";
import { uploadFile } from "../documents/upload";
import type { StoreFile, VectorStoreFile } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 400;
/** Days without use after which the documents of a conversation are deleted. */
const KEPT_DAYS = 30;

export const CONVERSATION = "conversation";

const pathOf = (store: string) => `/v1/vector_stores/${part(store)}`;

/** Creates a store for the documents of one conversation and returns its id. */
export async function makeStore(): Promise<string> {
  const letters = [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(36)).join("");
  const made = await json<{ id: string }>("/v1/vector_stores", {
    json: {
      name: `conversation-${letters.slice(0, 8)}`,
      description: t("attach.storeOf"),
      metadata: { portico: CONVERSATION },
      expires_after: { anchor: "last_active_at", days: KEPT_DAYS },
    },
  });
  return made.id;
}

/** Adds a file to a store. Returns once the file is searchable; throws an error if it cannot be read. */
export async function addTo(store: string, file: File): Promise<void> {
  const id = await uploadFile(file, file.name, "assistants");
  let row = await json<VectorStoreFile>(`${pathOf(store)}/files`, { json: { file_id: id } });
  while (row.status === "in_progress") {
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
    row = await json<VectorStoreFile>(`${pathOf(store)}/files/${part(id)}`);
  }
  if (row.status === "completed") return;
  await removeFrom(store, id);
  throw new Error(`${file.name}: ${row.last_error?.message ?? t("file.failed")}`);
}

export async function removeFrom(store: string, file: string): Promise<void> {
  await json(`${pathOf(store)}/files/${part(file)}`, { method: "DELETE" });
}

export function filesOf(store: string): Promise<StoreFile[]> {
  return rows<StoreFile>(`/api/stores/${part(store)}/files?limit=100`);
}

export async function removeStore(store: string): Promise<void> {
  await json(pathOf(store), { method: "DELETE" });
}
