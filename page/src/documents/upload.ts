// Uploads to a store: one file after another, with progress, and a retry after a failure.

import { signal } from "@preact/signals";
import { addressOf } from "../address";
import { ApiError, errorOf, json, key, parsed, part, sentence } from "../api";
import { cutUpload } from "../proxy";

export interface Upload {
  id: number;
  store: string;
  name: string;
  /** Progress from 0 to 1. */
  done: number;
  state: "waiting" | "sending" | "sent" | "failed";
  error: string;
  file: File;
}

export const uploads = signal<Upload[]>([]);

let last = 0;
let working = false;

function change(id: number, values: Partial<Upload>): void {
  uploads.value = uploads.value.map((each) => (each.id === id ? { ...each, ...values } : each));
}

/** `name`: the file's path, including its folders. */
export function add(store: string, files: { file: File; name: string }[]): void {
  const added = files.map(({ file, name }) => {
    last += 1;
    return { id: last, store, name, done: 0, state: "waiting" as const, error: "", file };
  });
  uploads.value = [...uploads.value.filter((each) => each.state !== "sent"), ...added];
  work();
}

export function again(id: number): void {
  change(id, { state: "waiting", error: "", done: 0 });
  work();
}

export function forget(id: number): void {
  uploads.value = uploads.value.filter((each) => each.id !== id);
}

async function work(): Promise<void> {
  if (working) return;
  working = true;
  for (;;) {
    const next = uploads.value.find((each) => each.state === "waiting");
    if (!next) break;
    change(next.id, { state: "sending" });
    try {
      const id = await send(next);
      await json(`/v1/vector_stores/${part(next.store)}/files`, { json: { file_id: id } });
      change(next.id, { state: "sent", done: 1 });
    } catch (error) {
      change(next.id, { state: "failed", error: sentence(error) });
    }
  }
  working = false;
}

function send({ id, file, name }: Upload): Promise<string> {
  return uploadFile(file, name, "assistants", (done) => change(id, { done }));
}

/** Uploads a file and returns its id. Uses XMLHttpRequest, because `fetch` does not report progress. */
export function uploadFile(
  file: File,
  name: string,
  purpose: string,
  progress: (done: number) => void = () => undefined,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", addressOf("/v1/files"));
    if (key.value) request.setRequestHeader("Authorization", `Bearer ${key.value}`);
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) progress(event.loaded / event.total);
    });
    for (const event of ["error", "abort", "timeout"])
      request.addEventListener(event, () => reject(new ApiError(cutUpload(file.size), 0, "no_answer")));
    request.addEventListener("load", () => {
      const id = parsed<{ id?: string }>(request.responseText)?.id;
      if (id) resolve(id);
      else {
        const server = request.getResponseHeader("Server") ?? "";
        reject(errorOf(request.status, server, request.responseText, file.size));
      }
    });
    const form = new FormData();
    form.append("purpose", purpose);
    form.append("file", file, name);
    request.send(form);
  });
}

/** Returns the dropped files, including those within folders. */
export async function dropped(transfer: DataTransfer): Promise<{ file: File; name: string }[]> {
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const found: { file: File; name: string }[] = [];
  for (const entry of entries) await gather(entry, found);
  return found.length ? found : [...transfer.files].map((file) => ({ file, name: file.name }));
}

async function gather(entry: FileSystemEntry, found: { file: File; name: string }[]): Promise<void> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) => {
      (entry as FileSystemFileEntry).file(resolve, reject);
    });
    found.push({ file, name: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (!some.length) return;
    for (const inner of some) await gather(inner, found);
  }
}
