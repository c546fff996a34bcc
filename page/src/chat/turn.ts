// One question in progress. Its answer is a background response, which completes even if this page is closed. After a
// lost connection, a reload or a restart of the daemon, the page requests the events it has missed.

import { signal } from "@preact/signals";
import { ApiError, type Followed, follow, followRun, frames, isAbort, json, part, pause, send } from "../api";
import { type Answer, isOpen, newAnswer, withResponseEvent, withRunEvent } from "./answer";
import type { Content, Part } from "./content";
import { type Message, type Pending, type Settings, searched, textOf } from "./sessions";

/** Maximum time that the run may take to end after its response. */
const LAST_WORDS_MS = 2_000;
const BEING_MADE = new Set(["queued", "in_progress"]);

export interface Asked {
  model: string;
  agent: boolean;
  /** A model receives stores and tools; an app has its own. */
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

/** A part of the input of a response. */
interface InputPart {
  type: string;
  text?: string;
  image_url?: string;
  file_id?: string;
  filename?: string;
}

function inputPart(piece: Part): InputPart[] {
  if ("text" in piece) return [{ type: "input_text", text: piece.text }];
  if ("image_url" in piece) return [{ type: "input_image", image_url: piece.image_url.url }];
  if ("file" in piece) return [{ type: "input_file", ...piece.file }];
  return [];
}

/** Tells the model about the skills of a conversation. */
const SKILLS = "The user chose these skills. Before you answer, read each of them with read_skill:";

/** Returns the request for a response. An agent keeps its own history and receives only new messages. */
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
    ...parametersOf(asked.settings, asked.isModel),
    ...(asked.isModel ? toolsOf(asked.settings) : {}),
  };
}

function parametersOf(settings: Settings, isModel: boolean): Record<string, unknown> {
  const { temperature, top_p, max_output_tokens, skills = [] } = settings;
  const aboutSkills = isModel && skills.length ? [SKILLS, ...skills].join("\n- ") : "";
  const instructions = [settings.instructions, aboutSkills].filter(Boolean).join("\n\n");
  return {
    ...(instructions ? { instructions } : {}),
    ...(temperature === undefined ? {} : { temperature }),
    ...(top_p === undefined ? {} : { top_p }),
    ...(max_output_tokens ? { max_output_tokens } : {}),
  };
}

/**
 * Returns the tools of the model. If the operator requires approval, the daemon asks before a call and the page shows
 * the question.
 */
function toolsOf(settings: Settings): Record<string, unknown> {
  const stores = searched(settings);
  const own = [...new Set([...(settings.tools ?? []), ...(settings.skills?.length ? ["read_skill"] : [])])];
  const server = (label: string, allowed?: string[]) => ({
    type: "mcp",
    server_label: label,
    require_approval: "never",
    ...(allowed ? { allowed_tools: allowed } : {}),
  });
  const tools = [
    ...(stores.length ? [{ type: "file_search", vector_store_ids: stores }] : []),
    ...(settings.servers ?? []).map((name) => server(name)),
    ...(own.length ? [server("portico", own)] : []),
  ];
  if (!tools.length) return {};
  const first = stores.length && !settings.searches_at_will;
  return { tools, ...(first ? { tool_choice: { type: "file_search" } } : {}) };
}

export class Turn {
  readonly answer;
  /** Whether the connection is lost and being restored. */
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

  /** Sends the question. Returns once the daemon has acknowledged it; throws an error if it does not. */
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

  /** Resumes an answer that this page started before a reload, or that another page started. */
  resume(pending: Pending): void {
    this.pending = pending;
  }

  /** Follows the answer to its end, reconnecting as needed. */
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

  /** Stops listening. The answer continues. */
  leave(): void {
    this.leaving.abort();
  }

  /** Stops the answer. */
  async stop(): Promise<void> {
    if (!this.pending) {
      this.leaving.abort();
      return;
    }
    try {
      await json(`/v1/responses/${part(this.pending.response)}/cancel`, { method: "POST" });
    } catch (error) {
      if (!(error instanceof ApiError && error.code === "response_ended")) throw error;
    }
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

  /** The daemon was killed and has repeated some steps: start again from the first event. */
  private restart(): void {
    const { model, calls, passages, questions } = this.answer.peek();
    this.sequence = -1;
    const kept = calls
      .filter((call) => call.told !== "item")
      .map((call) => ({ ...call, told: "run" as const }));
    this.answer.value = { ...newAnswer(model), calls: kept, passages, questions };
  }

  /** Tools, passages and questions come from the run. If it fails, the answer is still shown. */
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

/** Returns the question of a response that was started earlier. */
export async function questionOf(response: string): Promise<Content> {
  const page = await json<{ data: { role?: string; content?: unknown }[] }>(
    `/v1/responses/${part(response)}/input_items?limit=1&order=desc`,
  );
  const content = page.data[0]?.content;
  if (!Array.isArray(content)) return String(content ?? "");
  const pieces = (content as InputPart[]).map((piece): Part => {
    if (piece.type === "input_image") return { type: "image_url", image_url: { url: piece.image_url ?? "" } };
    if (piece.type !== "input_file") return { type: "text", text: piece.text ?? "" };
    return { type: "file", file: { file_id: piece.file_id ?? "", filename: piece.filename ?? "" } };
  });
  return pieces.every((piece) => piece.type === "text") ? textOf(pieces) : pieces;
}
