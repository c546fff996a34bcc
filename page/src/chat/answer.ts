// An answer while it is generated: pure functions that apply the events of a response and of its run.

import { type Claim, type Unsupported, unsupportedIn } from "../claims";
import type { Passage } from "../passage";
import type { QuestionDescription, RunTokens } from "../types";

export interface Call {
  id: string;
  name: string;
  arguments: string;
  result?: string;
  failed?: boolean;
  /** The only source that has reported the call so far: the response, as an item with its own id, or its run. */
  told?: "item" | "run";
  /** The id of the call in the other source. */
  same?: string;
}

/** A file created by a tool. */
export interface MadeFile {
  id: string;
  name: string;
}

export type Usage = Omit<RunTokens, "cached_tokens">;

export type AnswerState = "asking" | "streaming" | "done" | "stopped" | "failed";

export interface Answer {
  state: AnswerState;
  text: string;
  /** The offset in the text at which the current message begins. */
  begin: number;
  unsupported: Unsupported[];
  reasoning: string;
  calls: Call[];
  passages: Passage[];
  questions: QuestionDescription[];
  files: MadeFile[];
  /** The current step before the first word, such as `load echo`. */
  stage: string;
  error: string;
  usage: Usage | null;
  model: string;
  /** Milliseconds from the first word to the end, and the time of the first word. */
  milliseconds: number;
  began: number;
}

export function newAnswer(model: string): Answer {
  return {
    state: "asking",
    text: "",
    begin: 0,
    unsupported: [],
    reasoning: "",
    calls: [],
    passages: [],
    questions: [],
    files: [],
    stage: "",
    error: "",
    usage: null,
    model,
    milliseconds: 0,
    began: 0,
  };
}

/** A thought at the start of a message. An unclosed thought extends to the end of the text. */
const THOUGHT = /(^|\n\n)\s*<think>([\s\S]*?)(?:<\/think>\s*|$)/g;
/** The templates of some models write the opening tag themselves. */
const UNOPENED_THOUGHT = /^()((?:(?!<think>)[\s\S])*?)\n<\/think>\s*/g;
const OPENING = "<think>";

/** Moves the thoughts in the text of an answer to `reasoning`. `live`: the text is still growing. */
export function withoutThought<T extends { text: string; reasoning: string; unsupported?: Unsupported[] }>(
  answer: T,
  live = false,
): T {
  if (live && OPENING.startsWith(answer.text.trim())) return { ...answer, text: "" };
  const pattern = answer.text.includes(OPENING) ? THOUGHT : UNOPENED_THOUGHT;
  const thoughts: string[] = [];
  let unsupported = answer.unsupported ?? [];
  let removed = 0;
  const text = answer.text.replace(pattern, (whole, before: string, thought: string, place: number) => {
    const start = place - removed + before.length;
    const length = whole.length - before.length;
    unsupported = unsupported
      .filter(({ at }) => at <= start || at > start + length)
      .map((each) => (each.at > start ? { ...each, at: each.at - length } : each));
    removed += length;
    thoughts.push(thought.trim());
    return before;
  });
  if (!thoughts.length) return answer;
  const reasoning = [answer.reasoning, ...thoughts].filter(Boolean).join("\n\n");
  return { ...answer, text, reasoning, ...(answer.unsupported ? { unsupported } : {}) };
}

export function isOpen(answer: Answer): boolean {
  return answer.state === "asking" || answer.state === "streaming";
}

interface ResponseDocument {
  status: string;
  error: { message?: string } | null;
  usage: { input_tokens: number; output_tokens: number } | null;
}

interface Item {
  id: string;
  type: string;
  name?: string;
  arguments?: string;
  output?: string | null | { stdout: string; stderr: string }[];
  error?: unknown;
  queries?: string[];
  code?: string | null;
  /** For a shell or patch call: the model's id of the call. Its output and the events of the run use the same id. */
  call_id?: string;
  action?: { commands?: string[]; command?: string[] };
  operation?: { type: string; path: string; diff?: string };
}

type ResponseEvent = { type: string; [field: string]: unknown };

const ENDS: Record<string, AnswerState> = {
  "response.completed": "done",
  "response.incomplete": "done",
  "response.failed": "failed",
};

/** Returns the answer after an event of its response. `now` is in milliseconds. */
export function withResponseEvent(answer: Answer, event: ResponseEvent, now: number): Answer {
  const end = ENDS[event.type];
  if (end) return ended(answer, end, event.response as ResponseDocument, now);
  switch (event.type) {
    case "response.output_text.delta":
    case "response.refusal.delta":
      return withClaims({ ...started(answer, now), text: answer.text + String(event.delta) }, event);
    case "response.reasoning_text.delta":
    case "response.reasoning_summary_text.delta":
      return { ...started(answer, now), reasoning: answer.reasoning + String(event.delta) };
    case "response.output_item.added":
      return withItem(apart(answer, event.item as Item), event.item as Item);
    case "response.output_item.done":
      return withItem(answer, event.item as Item);
    case "response.output_text.annotation.added":
      return withAnnotation(answer, event.annotation as Record<string, unknown>);
    default:
      return answer;
  }
}

function started(answer: Answer, now: number): Answer {
  return answer.state === "asking" ? { ...answer, state: "streaming", stage: "", began: now } : answer;
}

/** A cancelled response ends with `response.failed`, as with OpenAI. Its status gives the reason. */
function ended(answer: Answer, end: AnswerState, document: ResponseDocument, now: number): Answer {
  const state = document.status === "cancelled" ? "stopped" : end;
  const spent = document.usage;
  return {
    ...answer,
    state,
    stage: "",
    questions: [],
    error: state === "failed" ? (document.error?.message ?? "") : "",
    milliseconds: answer.state === "streaming" ? now - answer.began : 0,
    usage: spent
      ? {
          prompt_tokens: spent.input_tokens,
          completion_tokens: spent.output_tokens,
          cost: answer.usage?.cost ?? null,
        }
      : answer.usage,
  };
}

const HOSTED: Record<string, string> = {
  file_search_call: "file_search",
  code_interpreter_call: "code_interpreter",
  image_generation_call: "image_generation",
  shell_call: "shell",
  shell_call_output: "shell",
  local_shell_call: "local_shell",
  apply_patch_call: "apply_patch",
  apply_patch_call_output: "apply_patch",
};

/** Text after a tool call starts a new paragraph. */
function apart(answer: Answer, item: Item): Answer {
  if (item.type !== "message" || !answer.text) return answer;
  const text = `${answer.text}\n\n`;
  return { ...answer, text, begin: text.length };
}

function withClaims(answer: Answer, event: ResponseEvent): Answer {
  const found = unsupportedIn(answer.text, (event.claims ?? []) as Claim[], answer.begin);
  return found.length ? { ...answer, unsupported: [...answer.unsupported, ...found] } : answer;
}

function withItem(answer: Answer, item: Item): Answer {
  const name = item.type === "mcp_call" ? item.name : HOSTED[item.type];
  if (!name) return answer;
  const { error } = item;
  const told = { name, arguments: argumentsOf(item) ?? "", ...(error ? { failed: true } : {}) };
  const result = error ? JSON.stringify(error) : outputOf(item);
  return withCall(answer, "item", item.call_id ?? item.id, (known) => ({
    ...told,
    arguments: told.arguments || known.arguments,
    ...(result && known.result === undefined ? { result } : {}),
  }));
}

function argumentsOf({ action, operation, ...item }: Item): string | undefined {
  if (operation) return [`${operation.type} ${operation.path}`, operation.diff].filter(Boolean).join("\n");
  if (action) return action.commands?.join("\n") ?? action.command?.join(" ");
  return item.arguments ?? item.queries?.join("\n") ?? item.code ?? undefined;
}

function outputOf({ output }: Item): string {
  if (!Array.isArray(output)) return output ?? "";
  return output.map((each) => each.stdout + each.stderr).join("\n");
}

function withAnnotation(answer: Answer, note: Record<string, unknown>): Answer {
  const id = String(note.file_id ?? "");
  if (note.type !== "container_file_citation" && note.type !== "file_path") return answer;
  if (answer.files.some((file) => file.id === id)) return answer;
  return { ...answer, files: [...answer.files, { id, name: String(note.filename ?? id) }] };
}

/**
 * Returns the answer with a report of a call by source `by`. A hosted tool has one id in the response and another in
 * the run, and both report its calls in the same order. The first call of a tool that only the other source has
 * reported is therefore the same call.
 */
function withCall(
  answer: Answer,
  by: "item" | "run",
  id: string,
  tell: (known: Call) => Partial<Call> & { name: string },
): Answer {
  const fresh: Call = { id, name: "", arguments: "", told: by };
  const { name } = tell(fresh);
  const known =
    answer.calls.find((call) => call.id === id || call.same === id) ??
    answer.calls.find((call) => call.told && call.told !== by && isSameTool(call.name, name));
  if (!known) return { ...answer, calls: [...answer.calls, { ...fresh, ...tell(fresh) }] };
  const changed: Call = { ...known, ...tell(known) };
  if (known.id !== id) changed.same = id;
  if (known.told !== by) delete changed.told;
  return { ...answer, calls: answer.calls.map((call) => (call === known ? changed : call)) };
}

/** If two tools have the same name, a server's tool is called with the server's name as a prefix. */
function isSameTool(one: string, other: string): boolean {
  return one.endsWith(other) || other.endsWith(one);
}

/** Returns the open questions of a run after one of its events. */
export function withQuestionEvent(open: QuestionDescription[], event: ResponseEvent): QuestionDescription[] {
  if (event.type !== "asked" && event.type !== "answered") return open;
  const others = open.filter((question) => question.id !== event.id);
  const isForPeople = event.type === "asked" && (event.kind === "approval" || event.kind === "input");
  return isForPeople ? [...others, event as unknown as QuestionDescription] : others;
}

/** Returns the answer after an event of its run. */
export function withRunEvent(answer: Answer, event: ResponseEvent): Answer {
  switch (event.type) {
    case "cited":
      return { ...answer, passages: event.passages as Passage[] };
    case "tool_called":
      return withCall(answer, "run", String(event.id), (known) => ({
        name: known.name || String(event.name),
        arguments: known.arguments || String(event.arguments),
      }));
    case "tool_returned":
      return withCall(answer, "run", String(event.id), (known) => ({
        name: known.name || String(event.name),
        result: String(event.text),
        failed: Boolean(event.is_error),
      }));
    case "handed_off":
      return { ...answer, model: String(event.to) };
    case "asked":
    case "answered":
      return { ...answer, questions: withQuestionEvent(answer.questions, event) };
    case "status":
      return answer.state === "asking" ? { ...answer, stage: stageOf(event) } : answer;
    case "usage":
      return typeof event.cost === "number" ? withCost(answer, event.cost) : answer;
    default:
      return answer;
  }
}

function stageOf(event: ResponseEvent): string {
  const share =
    typeof event.done === "number" && typeof event.total === "number" && event.total > 0
      ? ` ${Math.round((100 * event.done) / event.total)} %`
      : "";
  return `${String(event.stage)} ${String(event.message ?? "")}`.trim() + share;
}

function withCost(answer: Answer, cost: number): Answer {
  const usage = answer.usage ?? { prompt_tokens: 0, completion_tokens: 0, cost: null };
  return { ...answer, usage: { ...usage, cost: (usage.cost ?? 0) + cost } };
}
