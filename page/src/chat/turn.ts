// One question on its way. Its answer is a response in the background: it is made whether or not this page listens,
// and what was missed is asked for again after a cut, a reload or a restart of the daemon.

import { signal } from "@preact/signals";
import { ApiError, frames, isAbort, json, part, send } from "../api";
import type { Content, Part } from "../types";
import { type Answer, isOpen, newAnswer, withResponseEvent, withRunEvent } from "./answer";
import { type Message, type Pending, type Settings, searched, textOf } from "./sessions";

const FIRST_WAIT_MS = 300;
const MAX_WAIT_MS = 5_000;
const MAX_SILENCE_MS = 10 * 60_000;
/** How long the run may take to end after its response. */
const LAST_WORDS_MS = 2_000;
// A browser holds six connections to one address, those of all its tabs together. A page that nobody sees gives its own
// back, asks now and then whether the answer is there, and hears the rest of it then.
const UNSEEN_MS = 1_000;
const UNSEEN_POLL_MS = 5_000;
const BEING_MADE = new Set(["queued", "in_progress"]);

export interface Asked {
  model: string;
  agent: boolean;
  /** A model is given stores and tools; an app has its own. */
  isModel: boolean;
  session: string;
  history: Message[];
  question: Content;
  settings: Settings;
}

function inputOf(content: Content, role: "user" | "assistant"): unknown {
  if (typeof content === "string" || role === "assistant") return { role, content: textOf(content) };
  return { role, content: content.flatMap(inputPart) };
}

function inputPart(piece: Part): { type: string; text?: string; image_url?: string }[] {
  if ("text" in piece) return [{ type: "input_text", text: piece.text }];
  if ("image_url" in piece) return [{ type: "input_image", image_url: piece.image_url.url }];
  return [];
}

/** The request for a response. An agent remembers by itself: it is given what is new alone. */
export function requestFor(asked: Asked): Record<string, unknown> {
  const now = inputOf(asked.question, "user");
  if (asked.agent) {
    return { model: asked.model, input: [now], conversation: asked.session, background: true, stream: true };
  }
  return {
    model: asked.model,
    input: [...asked.history.map((message) => inputOf(message.content, message.role)), now],
    background: true,
    stream: true,
    ...parametersOf(asked.settings),
    ...(asked.isModel ? toolsOf(asked.settings) : {}),
  };
}

function parametersOf(settings: Settings): Record<string, unknown> {
  const { instructions, temperature, max_output_tokens } = settings;
  return {
    ...(instructions ? { instructions } : {}),
    ...(temperature === undefined ? {} : { temperature }),
    ...(max_output_tokens ? { max_output_tokens } : {}),
  };
}

/** What the model may use. The daemon asks before a call where its operator wants that, and the page shows the question. */
function toolsOf(settings: Settings): Record<string, unknown> {
  const stores = searched(settings);
  const server = (label: string, allowed?: string[]) => ({
    type: "mcp",
    server_label: label,
    require_approval: "never",
    ...(allowed ? { allowed_tools: allowed } : {}),
  });
  const tools = [
    ...(stores.length ? [{ type: "file_search", vector_store_ids: stores }] : []),
    ...(settings.servers ?? []).map((name) => server(name)),
    ...(settings.tools?.length ? [server("portico", settings.tools)] : []),
  ];
  if (!tools.length) return {};
  const first = stores.length && !settings.searches_at_will;
  return { tools, ...(first ? { tool_choice: { type: "file_search" } } : {}) };
}

export class Turn {
  readonly answer;
  /** Whether the connection is cut and being made again. */
  readonly cut = signal(false);
  pending: Pending | null = null;
  private readonly leaving = new AbortController();
  /** Aborted when nobody sees the page: it listens again later. */
  private unseen = new AbortController();
  private waiting: Promise<void> | null = null;
  private sequence = -1;
  private event = "";

  constructor(
    readonly question: Content,
    model: string,
  ) {
    this.answer = signal<Answer>(newAnswer(model));
  }

  /** Ask. Returns once the daemon has acknowledged the question; raises why it has not. */
  async begin(asked: Asked): Promise<Pending> {
    const response = await send("/v1/responses", { json: requestFor(asked), signal: this.listening() });
    const run = response.headers.get("x-portico-run") ?? "";
    const stream = frames(response);
    const first = await stream.next();
    if (first.done) throw new ApiError("The connection was cut.", 0, "cut");
    const created = JSON.parse(first.value.data) as { response: { id: string } };
    this.pending = { response: created.response.id, run };
    this.hear(first.value.data);
    this.rest = stream;
    return this.pending;
  }

  private rest: AsyncGenerator<{ data: string }> | null = null;

  /** An answer that was begun before: by this page before a reload, or by another one. */
  resume(pending: Pending): void {
    this.pending = pending;
  }

  /** Follow the answer to its end, over as many connections as it takes. */
  async follow(): Promise<void> {
    const unwatch = this.watch();
    const run = this.followRun();
    try {
      await this.again(() => this.followResponse());
      await Promise.race([run, pause(LAST_WORDS_MS, this.leaving.signal)]);
    } finally {
      unwatch();
      this.leaving.abort();
      await run;
    }
  }

  /** Give the connections back whenever nobody sees the page; returns what ends that. */
  private watch(): () => void {
    let timer = 0;
    const look = () => {
      window.clearTimeout(timer);
      if (!document.hidden) return;
      timer = window.setTimeout(() => {
        this.unseen.abort();
        this.unseen = new AbortController();
      }, UNSEEN_MS);
    };
    look();
    document.addEventListener("visibilitychange", look);
    return () => {
      window.clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }

  /** What ends a connection: the reader has left, or does not see the page. */
  private listening(): AbortSignal {
    return AbortSignal.any([this.leaving.signal, this.unseen.signal]);
  }

  /** Wait as long as nobody sees the page and the answer is still made. */
  private seen(): Promise<void> {
    this.waiting ??= this.untilSeen().finally(() => {
      this.waiting = null;
    });
    return this.waiting;
  }

  private async untilSeen(): Promise<void> {
    while (document.hidden && this.pending) {
      const path = `/v1/responses/${part(this.pending.response)}`;
      const now = await json<{ status: string }>(path, { signal: this.leaving.signal });
      if (!BEING_MADE.has(now.status)) return;
      await pause(UNSEEN_POLL_MS, this.leaving.signal, true);
    }
  }

  /** Listen no more. The answer is made all the same. */
  leave(): void {
    this.leaving.abort();
  }

  /** End the answer where it is. */
  async stop(): Promise<void> {
    if (this.pending) await json(`/v1/responses/${part(this.pending.response)}/cancel`, { method: "POST" });
    else this.leaving.abort();
  }

  private async again(listen: () => Promise<void>): Promise<void> {
    let wait = FIRST_WAIT_MS;
    let heard = Date.now();
    while (isOpen(this.answer.peek())) {
      const before = this.sequence;
      try {
        if (!this.rest && document.hidden) {
          await this.seen();
          heard = Date.now();
        }
        await listen();
      } catch (error) {
        if (this.leaving.signal.aborted) throw error;
        if (isAbort(error)) continue; // nobody sees the page
        if (!(error instanceof ApiError)) throw error;
        if (error.code === "events_made_anew") this.restart();
        else if (error.status && error.status < 500) throw error;
      }
      if (!isOpen(this.answer.peek())) break;
      if (this.sequence !== before) {
        heard = Date.now();
        wait = FIRST_WAIT_MS;
      } else if (Date.now() - heard > MAX_SILENCE_MS) {
        throw new ApiError("The daemon does not answer.", 0, "no_answer");
      }
      this.cut.value = true;
      await pause(wait, this.leaving.signal);
      wait = Math.min(wait * 2, MAX_WAIT_MS);
    }
    this.cut.value = false;
  }

  private async followResponse(): Promise<void> {
    const stream = this.rest ?? (await this.reconnect());
    this.rest = null;
    this.cut.value = false;
    for await (const frame of stream) {
      this.hear(frame.data);
      if (!isOpen(this.answer.peek())) return;
    }
  }

  private async reconnect(): Promise<AsyncGenerator<{ data: string }>> {
    const id = part(this.pending?.response ?? "");
    const path = `/v1/responses/${id}?stream=true&starting_after=${this.sequence}`;
    return frames(await send(path, { signal: this.listening() }));
  }

  private hear(data: string): void {
    const event = JSON.parse(data) as { type: string; sequence_number?: number };
    if (event.sequence_number !== undefined) this.sequence = event.sequence_number;
    this.answer.value = withResponseEvent(this.answer.peek(), event, performance.now());
  }

  /** The daemon was killed and has made a part again: begin from the first event. */
  private restart(): void {
    const { model, calls, passages, questions } = this.answer.peek();
    this.sequence = -1;
    const kept = calls
      .filter((call) => call.told !== "item")
      .map((call) => ({ ...call, told: "run" as const }));
    this.answer.value = { ...newAnswer(model), calls: kept, passages, questions };
  }

  /** Tools, passages and questions come from the run. An answer without them is better than none. */
  private async followRun(): Promise<void> {
    let wait = FIRST_WAIT_MS;
    while (this.pending?.run && isOpen(this.answer.peek()) && !this.leaving.signal.aborted) {
      try {
        await this.seen();
        const headers: Record<string, string> = this.event ? { "Last-Event-ID": this.event } : {};
        const path = `/api/runs/${part(this.pending.run)}/events`;
        for await (const frame of frames(await send(path, { headers, signal: this.listening() }))) {
          if (frame.id) this.event = frame.id;
          const event = JSON.parse(frame.data) as { type: string };
          if (event.type === "finished" || event.type === "failed") return;
          this.answer.value = withRunEvent(this.answer.peek(), event);
        }
      } catch (error) {
        if (this.leaving.signal.aborted) return;
        if (isAbort(error)) continue;
        if (error instanceof ApiError && error.status && error.status < 500) return;
      }
      await pause(wait, this.leaving.signal).catch(() => undefined);
      wait = Math.min(wait * 2, MAX_WAIT_MS);
    }
  }
}

/** `untilSeen`: no longer than until somebody sees the page. */
function pause(milliseconds: number, signal: AbortSignal, untilSeen = false): Promise<void> {
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

/** The question of a response that was begun before. */
export async function questionOf(response: string): Promise<Content> {
  const page = await json<{ data: { role?: string; content?: unknown }[] }>(
    `/v1/responses/${part(response)}/input_items?limit=1&order=desc`,
  );
  const content = page.data[0]?.content;
  if (!Array.isArray(content)) return String(content ?? "");
  const pieces = (content as { type: string; text?: string; image_url?: string }[]).map((piece) =>
    piece.type === "input_image"
      ? { type: "image_url", image_url: { url: piece.image_url ?? "" } }
      : { type: "text", text: piece.text ?? "" },
  );
  return pieces.every((piece) => piece.type === "text") ? textOf(pieces) : pieces;
}
