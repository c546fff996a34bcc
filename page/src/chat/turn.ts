// One question on its way. Its answer is a response in the background: it is made whether or not this page listens,
// and what was missed is asked for again after a cut, a reload or a restart of the daemon.

import { signal } from "@preact/signals";
import { ApiError, type Followed, follow, followRun, frames, isAbort, json, part, pause, send } from "../api";
import { type Answer, isOpen, newAnswer, withResponseEvent, withRunEvent } from "./answer";
import type { Content, Part } from "./content";
import { type Message, type Pending, type Settings, searched, textOf } from "./sessions";

/** How long the run may take to end after its response. */
const LAST_WORDS_MS = 2_000;
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
  const { instructions, temperature, top_p, max_output_tokens } = settings;
  return {
    ...(instructions ? { instructions } : {}),
    ...(temperature === undefined ? {} : { temperature }),
    ...(top_p === undefined ? {} : { top_p }),
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
  private first: Followed["first"];
  private sequence = -1;

  constructor(
    readonly question: Content,
    model: string,
  ) {
    this.answer = signal<Answer>(newAnswer(model));
  }

  /** Ask. Returns once the daemon has acknowledged the question; raises why it has not. */
  async begin(asked: Asked): Promise<Pending> {
    const unseen = new AbortController();
    const signal = AbortSignal.any([this.leaving.signal, unseen.signal]);
    const response = await send("/v1/responses", { json: requestFor(asked), signal });
    const run = response.headers.get("x-portico-run") ?? "";
    const stream = frames(response);
    const first = await stream.next();
    if (first.done) throw new ApiError("The connection was cut.", 0, "cut");
    const created = JSON.parse(first.value.data) as { response: { id: string } };
    this.pending = { response: created.response.id, run };
    this.hear(first.value.data);
    this.first = { frames: stream, unseen };
    return this.pending;
  }

  /** An answer that was begun before: by this page before a reload, or by another one. */
  resume(pending: Pending): void {
    this.pending = pending;
  }

  /** Follow the answer to its end, over as many connections as it takes. */
  async follow(): Promise<void> {
    const run = this.followRun();
    try {
      await this.followResponse();
      await Promise.race([run, pause(LAST_WORDS_MS, this.leaving.signal)]);
    } finally {
      this.leaving.abort();
      await run;
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

  private async followResponse(): Promise<void> {
    const stream: Followed = {
      open: (signal) => this.reconnect(signal),
      hasEnded: (signal) => this.isMade(signal),
      onCut: (isCut) => {
        this.cut.value = isCut;
      },
      ...(this.first ? { first: this.first } : {}),
    };
    for await (const frame of follow(stream, this.leaving.signal)) {
      this.hear(frame.data);
      if (!isOpen(this.answer.peek())) return;
    }
  }

  private async reconnect(signal: AbortSignal): Promise<Response> {
    const path = `/v1/responses/${part(this.pending?.response ?? "")}?stream=true&starting_after=`;
    try {
      return await send(`${path}${this.sequence}`, { signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "events_made_anew") throw error;
      this.restart();
      return send(`${path}${this.sequence}`, { signal });
    }
  }

  private async isMade(signal: AbortSignal): Promise<boolean> {
    const path = `/v1/responses/${part(this.pending?.response ?? "")}`;
    return !BEING_MADE.has((await json<{ status: string }>(path, { signal })).status);
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
    if (!this.pending?.run) return;
    const hasEnded = (signal: AbortSignal) => this.isMade(signal);
    try {
      for await (const event of followRun(this.pending.run, this.leaving.signal, hasEnded)) {
        if (event.type !== "finished" && event.type !== "failed") {
          this.answer.value = withRunEvent(this.answer.peek(), event);
        }
      }
    } catch (error) {
      if (!isAbort(error) && !(error instanceof ApiError)) throw error;
    }
  }
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
