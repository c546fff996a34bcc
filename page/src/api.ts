// Requests to this daemon. All responses are data: nothing in them becomes markup here.

import { signal } from "@preact/signals";
import { addressOf, storageName } from "./address";
import { notJson, proxyTrouble } from "./proxy";

export { sentence } from "./format";

const KEY_NAME = storageName("portico-key");

/** The key that is sent with every request, or an empty string if the daemon needs none. */
export const key = signal(sessionStorage.getItem(KEY_NAME) ?? localStorage.getItem(KEY_NAME) ?? "");

/** Stores the key. With `keep`, other tabs can use it, and it survives closing the browser. */
export function storeKey(value: string, keep: boolean): void {
  sessionStorage.removeItem(KEY_NAME);
  localStorage.removeItem(KEY_NAME);
  if (value) (keep ? localStorage : sessionStorage).setItem(KEY_NAME, value);
  key.value = value;
}

/** Takes over a key that another tab stored or removed, unless this tab has its own. Returns whether it did. */
export function takeOverKey(event: StorageEvent): boolean {
  if (event.storageArea !== localStorage || (event.key !== KEY_NAME && event.key !== null)) return false;
  if (sessionStorage.getItem(KEY_NAME)) return false;
  key.value = localStorage.getItem(KEY_NAME) ?? "";
  return true;
}

/** An error response, with the daemon's message. Status 0 means that no response arrived. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
  ) {
    super(message);
  }
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

export interface Options {
  method?: string;
  json?: unknown;
  body?: FormData;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  /** `no-cache` for answers with an ETag: the browser asks whether its copy is still valid. */
  cache?: RequestCache;
}

/** Sends a request. Throws `ApiError` unless the response is successful. */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  if (key.value) headers.Authorization = `Bearer ${key.value}`;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  const body = options.json === undefined ? options.body : JSON.stringify(options.json);
  let response: Response;
  try {
    response = await fetch(addressOf(path), {
      method: options.method ?? (body === undefined ? "GET" : "POST"),
      headers,
      cache: options.cache ?? "no-store",
      keepalive: options.method === "DELETE", // a deletion is also sent by a page that closes
      ...(body === undefined ? {} : { body }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The daemon does not answer.", 0, "no_answer");
  }
  if (response.ok) return response;
  const size = typeof body === "string" ? new Blob([body]).size : 0;
  throw errorOf(response.status, response.headers.get("Server") ?? "", await response.text(), size);
}

/**
 * Returns the error in a response. An error that is not JSON is from a proxy: its code is `proxy`. `server`: the
 * header `Server`; `sent`: the bytes of the request, or 0 if unknown.
 */
export function errorOf(status: number, server: string, text: string, sent: number): ApiError {
  const error = parsed<{ error?: { message?: string; code?: string } }>(text)?.error;
  if (!error?.message) return new ApiError(proxyTrouble(status, server, text, sent), status, "proxy");
  return new ApiError(error.message, status, error.code ?? null);
}

/** Returns the value of a JSON text, or null if the text is not JSON. */
export function parsed<T>(text: string): T | null {
  try {
    return JSON.parse(text) as T;
  } catch {
    return null;
  }
}

/** Sends a request and returns the JSON of its response. */
export async function json<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  if (response.status === 204) return undefined as T;
  if (/^text\/html\b/.test(response.headers.get("Content-Type") ?? ""))
    throw new ApiError(notJson(), response.status, "proxy");
  return (await response.json()) as T;
}

/** Returns the rows of a list. */
export async function rows<T>(path: string, options: Options = {}): Promise<T[]> {
  return (await json<{ data: T[] }>(path, options)).data;
}

export interface ListPage<T> {
  data: T[];
  has_more: boolean;
}

/** Returns about `most` rows of a paginated list. `load` receives the end of the query string. */
export async function everyRow<T extends { id: string }>(
  most: number,
  load: (after: string) => Promise<ListPage<T>>,
): Promise<T[]> {
  const found: T[] = [];
  let more = true;
  while (more && found.length < most) {
    const last = found.at(-1);
    const page = await load(last ? `&after=${part(last.id)}` : "");
    found.push(...page.data);
    more = page.has_more && page.data.length > 0;
  }
  return found;
}

export interface Frame {
  id: string;
  data: string;
}

/** Yields the frames of a stream of server-sent events as they arrive. */
export async function* frames(response: Response): AsyncGenerator<Frame> {
  if (!response.body) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      let read: ReadableStreamReadResult<string>;
      try {
        read = await reader.read();
      } catch (error) {
        if (isAbort(error)) throw error;
        throw new ApiError("The connection was cut.", 0, "cut");
      }
      if (read.done) return;
      const blocks = (rest + read.value).split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) {
        const frame = readFrame(block);
        if (frame) yield frame;
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

/** Parses one block of a stream. Returns null for a comment. */
export function readFrame(block: string): Frame | null {
  let id = "";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    else if (line.startsWith("id:")) id = line.slice(3).trim();
  }
  return data.length && data[0] !== "[DONE]" ? { id, data: data.join("\n") } : null;
}

const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 5_000;
const MAX_SILENCE_MS = 10 * 60_000;
// A browser allows six connections to one address, for all tabs together. A hidden page therefore closes its
// connection, checks now and then whether the stream has ended, and reads the rest at that point.
const UNSEEN_MS = 1_000;
const UNSEEN_POLL_MS = 5_000;

/** A stream of events that can be requested again from any event. */
export interface Followed {
  /** Requests the events after the one with id `last`, or all events if `last` is empty. */
  open: (signal: AbortSignal, last: string) => Promise<Response>;
  /** Returns whether the whole stream can be read without waiting. Called while the page is hidden. */
  hasEnded: (signal: AbortSignal) => Promise<boolean>;
  /** A connection that is already open. Aborting `unseen` closes it. */
  first?: { frames: AsyncGenerator<Frame>; unseen: AbortController };
  /** Called when the connection is lost and when it is restored. */
  onCut?: (isCut: boolean) => void;
}

/** Yields the frames of a stream, reconnecting as needed, until the reader stops or `leaving` is aborted. */
export async function* follow(stream: Followed, leaving: AbortSignal): AsyncGenerator<Frame> {
  let { first } = stream;
  let [wait, heard, last] = [FIRST_WAIT_MS, Date.now(), ""];
  for (;;) {
    const unseen = first?.unseen ?? new AbortController();
    const unwatch = whenUnseen(() => unseen.abort());
    try {
      if (!first && document.hidden) {
        await untilSeen(stream, leaving);
        heard = Date.now();
      }
      const signal = AbortSignal.any([leaving, unseen.signal]);
      const found = first?.frames ?? frames(await stream.open(signal, last));
      first = undefined;
      stream.onCut?.(false);
      for await (const frame of found) {
        last = frame.id || last;
        [wait, heard] = [FIRST_WAIT_MS, Date.now()];
        yield frame;
      }
    } catch (error) {
      if (leaving.aborted) throw error;
      if (isAbort(error)) continue; // the page is hidden
      if (!(error instanceof ApiError) || (error.status && error.status < 500)) throw error;
    } finally {
      first = undefined;
      unwatch();
    }
    if (Date.now() - heard > MAX_SILENCE_MS)
      throw new ApiError("The daemon does not answer.", 0, "no_answer");
    stream.onCut?.(true);
    await pause(wait, leaving);
    wait = Math.min(wait * 2, MAX_WAIT_MS);
  }
}

/** Yields the events of a run from the first to the last. `hasEnded` replaces the check whether the run has ended. */
export async function* followRun<E extends { type: string }>(
  run: string,
  leaving: AbortSignal,
  hasEnded?: Followed["hasEnded"],
): AsyncGenerator<E> {
  const path = `/api/runs/${part(run)}`;
  const stream: Followed = {
    open: (signal, last) =>
      send(`${path}/events`, { signal, ...(last ? { headers: { "Last-Event-ID": last } } : {}) }),
    hasEnded:
      hasEnded ??
      (async (signal) => (await json<{ finished_at: number | null }>(path, { signal })).finished_at !== null),
  };
  for await (const frame of follow(stream, leaving)) {
    const event = JSON.parse(frame.data) as E;
    yield event;
    if (event.type === "finished" || event.type === "failed") return;
  }
}

/** Calls `work` once the page has been hidden for a moment. Returns a function that cancels this. */
function whenUnseen(work: () => void): () => void {
  let timer = 0;
  const look = () => {
    window.clearTimeout(timer);
    if (document.hidden) timer = window.setTimeout(work, UNSEEN_MS);
  };
  look();
  document.addEventListener("visibilitychange", look);
  return () => {
    window.clearTimeout(timer);
    document.removeEventListener("visibilitychange", look);
  };
}

async function untilSeen(stream: Followed, leaving: AbortSignal): Promise<void> {
  while (document.hidden && !(await stream.hasEnded(leaving))) await pause(UNSEEN_POLL_MS, leaving, true);
}

/** Waits for a number of milliseconds. With `untilSeen`, the wait ends early when the page becomes visible. */
export function pause(milliseconds: number, signal: AbortSignal, untilSeen = false): Promise<void> {
  const ended = new AbortController();
  const found = new Promise<void>((resolve, reject) => {
    if (signal.aborted) reject(new DOMException("left", "AbortError"));
    const timer = setTimeout(resolve, milliseconds);
    ended.signal.addEventListener("abort", () => clearTimeout(timer));
    signal.addEventListener("abort", () => reject(new DOMException("left", "AbortError")), ended);
    if (untilSeen) document.addEventListener("visibilitychange", () => resolve(), ended);
  });
  return found.finally(() => ended.abort());
}

/** Encodes a path segment. */
export const part = encodeURIComponent;
