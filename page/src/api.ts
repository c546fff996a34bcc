// Requests to this daemon. Everything that it answers is data: nothing of it becomes markup here.

import { signal } from "@preact/signals";

export { sentence } from "./format";

const KEY_NAME = "portico-key";

/** The key that goes with every request; empty where the daemon asks for none. */
export const key = signal(sessionStorage.getItem(KEY_NAME) ?? localStorage.getItem(KEY_NAME) ?? "");

/** Whether the key is also there in other tabs, and after the browser was closed. */
export function storeKey(value: string, keep: boolean): void {
  sessionStorage.removeItem(KEY_NAME);
  localStorage.removeItem(KEY_NAME);
  if (value) (keep ? localStorage : sessionStorage).setItem(KEY_NAME, value);
  key.value = value;
}

/** Whether another tab has kept or forgotten a key; this one then uses the same, unless it has one of its own. */
export function takeOverKey(event: StorageEvent): boolean {
  if (event.storageArea !== localStorage || (event.key !== KEY_NAME && event.key !== null)) return false;
  if (sessionStorage.getItem(KEY_NAME)) return false;
  key.value = localStorage.getItem(KEY_NAME) ?? "";
  return true;
}

/** An answer that is an error, in the daemon's own words. A status of 0: no answer came. */
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
}

/** A request; raises `ApiError` unless it is answered with success. */
export async function send(path: string, options: Options = {}): Promise<Response> {
  const headers: Record<string, string> = { ...options.headers };
  if (key.value) headers.Authorization = `Bearer ${key.value}`;
  if (options.json !== undefined) headers["Content-Type"] = "application/json";
  const body = options.json === undefined ? options.body : JSON.stringify(options.json);
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? (body === undefined ? "GET" : "POST"),
      headers,
      cache: "no-store",
      ...(body === undefined ? {} : { body }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The daemon does not answer.", 0, "no_answer");
  }
  if (response.ok) return response;
  const document = (await response.json().catch(() => null)) as {
    error?: { message?: string; code?: string };
  };
  const message = document?.error?.message ?? `The daemon answered ${response.status}.`;
  throw new ApiError(message, response.status, document?.error?.code ?? null);
}

/** The JSON that a request is answered with. */
export async function json<T>(path: string, options: Options = {}): Promise<T> {
  const response = await send(path, options);
  return response.status === 204 ? (undefined as T) : ((await response.json()) as T);
}

/** The rows of a list. */
export async function rows<T>(path: string, options: Options = {}): Promise<T[]> {
  return (await json<{ data: T[] }>(path, options)).data;
}

export interface ListPage<T> {
  data: T[];
  has_more: boolean;
}

/** The rows of a list that comes in pages, about `most` of them; `load` is given what its query ends with. */
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

/** The frames of a stream of server-sent events, as they arrive. */
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

/** One block of a stream; null for a comment. */
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
// A browser holds six connections to one address, those of all its tabs together. A page that nobody sees gives its own
// back, asks now and then whether what it follows has ended, and hears the rest of it then.
const UNSEEN_MS = 1_000;
const UNSEEN_POLL_MS = 5_000;

/** A stream of events that can be asked for again from any of them on. */
export interface Followed {
  /** Asks for the events behind that with the id `last`; empty: for all of them. */
  open: (signal: AbortSignal, last: string) => Promise<Response>;
  /** Whether all of it can be heard at once: asked while nobody sees the page. */
  hasEnded: (signal: AbortSignal) => Promise<boolean>;
  /** The connection that is there already; `unseen` ends it. */
  first?: { frames: AsyncGenerator<Frame>; unseen: AbortController };
  /** Whether the connection is cut and made again. */
  onCut?: (isCut: boolean) => void;
}

/** The frames of a stream, over as many connections as it takes, until whoever reads them has enough or is `leaving`. */
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
      if (isAbort(error)) continue; // nobody sees the page
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

/** The events of a run, from the first one to its end; `hasEnded`: if it is known otherwise than by the run. */
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

/** Does it once nobody has seen the page for a moment; returns what forgets that. */
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

/** `untilSeen`: no longer than until somebody sees the page. */
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

/** A part of a path. */
export const part = encodeURIComponent;
