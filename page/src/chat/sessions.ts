// The daemon's sessions: the history that the page, the terminal and the SDK share.

import { json, type ListPage, part } from "../api";
import type { Unsupported } from "../claims";
import type { Passage } from "../passage";
import type { Session } from "../types";
import { type Answer, type Call, type Usage, withoutThought } from "./answer";
import type { Content } from "./content";

const PAGE_SIZE = 1_000;
const SESSIONS_AT_ONCE = 500;
const MAX_TITLE_CHARS = 60;
const MAX_KEPT_CHARS = 20_000;

/** Data that the page stores in the metadata of a session. */
export interface Settings {
  instructions?: string;
  temperature?: number;
  top_p?: number;
  max_output_tokens?: number;
  /** Ids of the stores to search. */
  stores?: string[];
  /** Whether the model decides when to search. Otherwise each question starts with a search. */
  searches_at_will?: boolean;
  /** Names of the tools that the model can call, and of the MCP servers of which it can call all tools. */
  tools?: string[];
  servers?: string[];
  /** Names of the skills that the model reads before it answers. */
  skills?: string[];
  /** The store with the documents of this conversation. */
  documents?: string;
  /** The destination of attached documents: `conversation`, or the id of a store. */
  into?: string;
}

/** Returns the stores that a model can search: the chosen ones and the documents of the conversation. */
export function searched(settings: Settings): string[] {
  return [...(settings.stores ?? []), ...(settings.documents ? [settings.documents] : [])];
}

/** The answer that is being generated. A reload or another tab finds it here. */
export interface Pending {
  response: string;
  run: string;
}

export interface Metadata {
  /** Whether the session is pinned to the top of the list. */
  pinned?: boolean;
  /** The folder in the list of conversations. */
  folder?: string;
  /** The target, if it differs from the one that the session started with. */
  target?: string;
  settings?: Settings;
  pending?: Pending;
  /** The original session of this branch. */
  root?: string;
  /** The session beside which this one runs: another model answers the same questions. */
  beside?: string;
}

/** The user's rating of an answer. With `corrected`, it contains the expected answer. */
export interface Rating {
  value: "good" | "bad" | "corrected";
  correction?: string;
}

export interface Message {
  /** The message's number in the session. */
  seq: number;
  role: "user" | "assistant";
  content: Content;
  /** The model, app or user that wrote the message. */
  sender: string;
  passages: Passage[];
  unsupported: Unsupported[];
  calls: Call[];
  reasoning: string;
  usage: Usage | null;
  milliseconds: number;
  stopped: boolean;
  response: string;
  rating: Rating | null;
}

interface RawMessage {
  sender: string;
  content: Content;
  type: string | null;
  extra_info: Record<string, unknown> | null;
}

interface Row {
  seq: number;
  message: RawMessage;
}

export function metadataOf(session: Session): Metadata {
  return (session.metadata.page ?? {}) as Metadata;
}

export function titleOf(session: Session): string {
  return session.title || session.name;
}

export function textOf(content: Content): string {
  if (typeof content === "string") return content;
  return content.flatMap((piece) => ("text" in piece ? [piece.text] : [])).join("\n");
}

export function picturesOf(content: Content): string[] {
  if (typeof content === "string") return [];
  return content.flatMap((piece) => ("image_url" in piece ? [piece.image_url.url] : []));
}

/** Returns the names of the files whose text is part of a message. */
export function filesIn(content: Content): string[] {
  if (typeof content === "string") return [];
  return content.flatMap((piece) => ("file" in piece ? [piece.file.filename] : []));
}

/** Returns the title of a conversation until the user renames it. */
export function headline(question: string): string {
  const words = question.split(/\s+/).filter(Boolean).join(" ");
  return words.length <= MAX_TITLE_CHARS ? words : `${words.slice(0, MAX_TITLE_CHARS - 1).trimEnd()}…`;
}

/** Returns up to `count` sessions after the one with id `after`, or the most recently used ones. */
export async function listSessions(
  search: string,
  after: string,
  count: number,
  signal?: AbortSignal,
): Promise<ListPage<Session>> {
  const found: ListPage<Session> = { data: [], has_more: true };
  while (found.has_more && (found.data.length < count || !found.data.length)) {
    const last = found.data.at(-1)?.id ?? after;
    const query = new URLSearchParams({
      limit: String(SESSIONS_AT_ONCE),
      ...(search ? { search } : {}),
      ...(last ? { after: last } : {}),
    });
    const page = await json<ListPage<Session>>(`/api/sessions?${query}`, signal ? { signal } : {});
    found.data.push(...page.data);
    found.has_more = page.has_more;
    if (!page.data.length) break;
  }
  return found;
}

export function getSession(id: string): Promise<Session> {
  return json<Session>(`/api/sessions/${part(id)}`);
}

export function openSession(app: string, title: string, metadata: Metadata): Promise<Session> {
  return json<Session>("/api/sessions", { json: { app, title, metadata: { page: metadata } } });
}

export function changeSession(
  session: Session,
  change: { title?: string; metadata?: Metadata },
): Promise<Session> {
  const metadata = change.metadata && { ...session.metadata, page: change.metadata };
  return json<Session>(`/api/sessions/${part(session.id)}`, {
    method: "PATCH",
    json: { ...change, ...(metadata ? { metadata } : {}) },
  });
}

export function removeSession(id: string): Promise<void> {
  return json(`/api/sessions/${part(id)}`, { method: "DELETE" });
}

async function rawRows(id: string): Promise<Row[]> {
  const found: Row[] = [];
  for (;;) {
    const after = found.at(-1)?.seq ?? 0;
    const page = await json<{ data: Row[]; has_more: boolean }>(
      `/api/sessions/${part(id)}/messages?agent=&after=${after}&limit=${PAGE_SIZE}`,
    );
    found.push(...page.data);
    if (!page.has_more) return found;
  }
}

/** Returns the messages of a session, oldest first. The tool calls of an agent belong to its answer. */
export async function readMessages(id: string): Promise<Message[]> {
  return toMessages(await rawRows(id));
}

/** Stores a rating of an answer. Null removes the rating. */
export function rateMessage(id: string, seq: number, rating: Rating | null): Promise<unknown> {
  const path = `/api/sessions/${part(id)}/messages/${seq}/rating`;
  return json(path, rating ? { method: "PUT", json: rating } : { method: "DELETE" });
}

export function toMessages(rows: Row[]): Message[] {
  const found: Message[] = [];
  let calls: Call[] = [];
  for (const { seq, message } of rows) {
    const about = message.extra_info ?? {};
    if (message.type === "tool_call") {
      for (const call of (about.tool_calls ?? []) as { id: string; function: Call }[]) {
        calls.push({ id: call.id, name: call.function.name, arguments: call.function.arguments });
      }
    } else if (message.type === "tool_result") {
      const call = calls.find((other) => other.id === about.tool_call_id);
      if (call) Object.assign(call, { result: textOf(message.content), failed: about.is_error === true });
    } else if (message.type === null) {
      const mine = message.sender === "user";
      const { content } = message;
      const kept = {
        text: mine || typeof content !== "string" ? "" : content,
        unsupported: (about.unsupported ?? []) as Unsupported[],
        reasoning: String(about.reasoning ?? ""),
      };
      const { text, unsupported, reasoning } = withoutThought(kept);
      found.push({
        seq,
        role: mine ? "user" : "assistant",
        content: kept.text ? text : content,
        sender: message.sender,
        passages: (about.passages ?? []) as Passage[],
        unsupported,
        calls: mine ? [] : [...calls, ...((about.calls ?? []) as Call[])],
        reasoning,
        usage: (about.usage ?? null) as Usage | null,
        milliseconds: Number(about.milliseconds ?? 0),
        stopped: about.stopped === true,
        response: String(about.response ?? ""),
        rating: (about.rating ?? null) as Rating | null,
      });
      calls = [];
    }
  }
  return found;
}

/** Appends a question and its answer to a session, unless they are already stored. */
export async function keepTurn(
  session: Session,
  question: Content,
  made: Answer,
  response: string,
  instructions = "",
): Promise<void> {
  const answer = withoutThought(made);
  await alone(`portico-${session.id}`, async () => {
    const known = toMessages(await rawRows(session.id));
    if (known.some((message) => message.response === response)) return;
    await addMessages(session.id, [
      { sender: "user", content: question, extra_info: null },
      { sender: answer.model, content: answer.text, extra_info: aboutAnswer(answer, response, instructions) },
    ]);
  });
}

function addMessages(id: string, messages: Omit<RawMessage, "type">[]): Promise<Session> {
  return json<Session>(`/api/sessions/${part(id)}/messages`, { json: { messages } });
}

function aboutAnswer(answer: Answer, response: string, instructions: string): Record<string, unknown> {
  const calls = answer.calls.map(({ told, same, ...call }) => ({
    ...call,
    result: call.result?.slice(0, MAX_KEPT_CHARS),
  }));
  return {
    response,
    ...(instructions ? { instructions } : {}),
    ...(answer.passages.length ? { passages: answer.passages } : {}),
    ...(answer.unsupported.length ? { unsupported: answer.unsupported } : {}),
    ...(calls.length ? { calls } : {}),
    ...(answer.reasoning ? { reasoning: answer.reasoning.slice(0, MAX_KEPT_CHARS) } : {}),
    ...(answer.usage ? { usage: answer.usage } : {}),
    ...(answer.milliseconds ? { milliseconds: answer.milliseconds } : {}),
    ...(answer.state === "stopped" ? { stopped: true } : {}),
  };
}

/** Runs work in one tab at a time. In browsers without locks, the order of requests at the daemon applies. */
async function alone(name: string, work: () => Promise<void>): Promise<void> {
  if (navigator.locks) await navigator.locks.request(name, work);
  else await work();
}

/** Creates a session of `app` with the first `keep` messages of another session. */
export async function branch(
  session: Session,
  keep: number,
  app: string,
  metadata: Metadata,
): Promise<Session> {
  const said = (await rawRows(session.id)).map((row) => row.message);
  let seen = 0;
  const memory: RawMessage[] = [];
  for (const message of said) {
    if (message.type === null && seen === keep) break;
    if (message.type === null) seen += 1;
    memory.push(unrated(message));
  }
  if (app === session.app) {
    const made = await json<Session>(`/api/sessions/${part(session.id)}/fork`, { json: {} });
    await json(`/api/sessions/${part(made.id)}/state`, {
      method: "PUT",
      json: { portico_session: 1, memory },
    });
    return changeSession({ ...made, metadata: session.metadata }, { title: titleOf(session), metadata });
  }
  const made = await openSession(app, titleOf(session), metadata);
  const plain = memory.filter((message) => message.type === null);
  if (plain.length) await addMessages(made.id, plain);
  return made;
}

/** Removes the rating of a copied message, because a copy would count twice. */
function unrated(message: RawMessage): RawMessage {
  const { rating: _rating, ...about } = message.extra_info ?? {};
  return message.extra_info ? { ...message, extra_info: about } : message;
}

/** Returns a conversation as JSON: messages with their senders, sources and tool calls. */
export function asJson(session: Session, messages: Message[]): string {
  const said = messages.map(({ seq: _seq, response: _response, ...message }) => message);
  return `${JSON.stringify({ title: titleOf(session), messages: said }, null, 2)}\n`;
}

/** Returns a conversation as Markdown. */
export function asMarkdown(session: Session, messages: Message[]): string {
  const said = messages.map((message) => {
    const sources = message.passages.map((passage) => `${passage.rank}. ${passage.filename}`);
    const heading = message.role === "user" ? "You" : message.sender;
    return [`## ${heading}`, textOf(message.content), ...(sources.length ? [sources.join("\n")] : [])].join(
      "\n\n",
    );
  });
  return `${[`# ${titleOf(session)}`, ...said].join("\n\n")}\n`;
}
