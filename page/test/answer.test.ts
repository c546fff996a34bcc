import { expect, test } from "vitest";
import {
  type Answer,
  isOpen,
  newAnswer,
  withoutThought,
  withResponseEvent,
  withRunEvent,
} from "../src/chat/answer";

type Event = { type: string; [field: string]: unknown };

function after(...events: Event[]): Answer {
  return events.reduce((answer, event, at) => withResponseEvent(answer, event, 100 * at), newAnswer("house"));
}

const ended = (type: string, more: object = {}) => ({
  type,
  response: { status: "", error: null, usage: { input_tokens: 7, output_tokens: 2 }, ...more },
});

test("words become the text, and the end brings what was used", () => {
  const answer = after(
    { type: "response.created" },
    { type: "response.output_text.delta", delta: "good " },
    { type: "response.output_text.delta", delta: "morning" },
    ended("response.completed"),
  );
  expect(answer).toMatchObject({ state: "done", text: "good morning", milliseconds: 200 });
  expect(answer.usage).toEqual({ prompt_tokens: 7, completion_tokens: 2, cost: null });
  expect(isOpen(answer)).toBe(false);
});

test("reasoning is apart from the text", () => {
  const answer = after(
    { type: "response.reasoning_text.delta", delta: "hm" },
    { type: "response.output_text.delta", delta: "yes" },
  );
  expect(answer).toMatchObject({ state: "streaming", reasoning: "hm", text: "yes" });
});

test("a failure says why", () => {
  const answer = after(ended("response.failed", { error: { message: "It crashed." } }));
  expect(answer).toMatchObject({ state: "failed", error: "It crashed." });
});

test("a cancelled answer keeps what was said", () => {
  const answer = after(
    { type: "response.output_text.delta", delta: "half" },
    ended("response.failed", { status: "cancelled" }),
  );
  expect(answer).toMatchObject({ state: "stopped", text: "half" });
});

test("what is said after a tool is a paragraph of its own", () => {
  const answer = after(
    { type: "response.output_text.delta", delta: "Let me see." },
    { type: "response.output_item.added", item: { id: "m2", type: "message" } },
    { type: "response.output_text.delta", delta: "Five." },
  );
  expect(answer.text).toBe("Let me see.\n\nFive.");
});

test("a tool is shown when it is called, and again with its result", () => {
  const called = withRunEvent(newAnswer("desk"), {
    type: "tool_called",
    id: "c1",
    name: "calculator",
    arguments: "{}",
  });
  expect(called.calls).toEqual([{ id: "c1", name: "calculator", arguments: "{}", told: "run" }]);
  const returned = withRunEvent(called, {
    type: "tool_returned",
    id: "c1",
    name: "calculator",
    text: "5",
    is_error: false,
  });
  expect(returned.calls).toEqual([
    { id: "c1", name: "calculator", arguments: "{}", result: "5", failed: false, told: "run" },
  ]);
});

test("a question is there until it is answered, by whomever", () => {
  const asked = withRunEvent(newAnswer("desk"), {
    type: "asked",
    id: "q1",
    kind: "approval",
    name: "delete",
  });
  expect(asked.questions.map((question) => question.id)).toEqual(["q1"]);
  expect(withRunEvent(asked, { type: "answered", id: "q1", accepted: true }).questions).toEqual([]);
});

test("a function of a client is not asked of the reader", () => {
  const asked = withRunEvent(newAnswer("desk"), { type: "asked", id: "q1", kind: "function", name: "f" });
  expect(asked.questions).toEqual([]);
});

test("progress is shown with its share until the first word", () => {
  const event = { type: "status", stage: "download", message: "model", done: 1, total: 4, unit: "bytes" };
  expect(withRunEvent(newAnswer("house"), event).stage).toBe("download model 25 %");
  const speaking = after({ type: "response.output_text.delta", delta: "a" });
  expect(withRunEvent(speaking, event).stage).toBe("");
});

test("costs of several calls are added", () => {
  let answer = newAnswer("desk");
  for (const cost of [0.25, 0.5]) answer = withRunEvent(answer, { type: "usage", cost });
  expect(answer.usage?.cost).toBe(0.75);
});

test("a sentence without evidence is marked where it ends, in the message that it is of", () => {
  const claim = { start: 0, end: 6, supported: false, reason: "number", removed: false, evidence: [] };
  const answer = after(
    { type: "response.output_text.delta", delta: "Before." },
    { type: "response.output_item.added", item: { id: "m2", type: "message" } },
    { type: "response.output_text.delta", delta: "😀 is 5." },
    { type: "response.output_text.delta", delta: "", claims: [claim, { ...claim, removed: true }] },
  );
  expect(answer.unsupported).toEqual([{ at: 16, reason: "number" }]);
  expect(answer.text.slice(0, 16)).toBe("Before.\n\n😀 is 5");
});

test("commands of a shell and patches are shown with what came of them", () => {
  const done = (item: object) => ({ type: "response.output_item.done", item });
  const answer = after(
    done({ id: "sh_1", call_id: "c1", type: "shell_call", action: { commands: ["ls", "wc -l a"] } }),
    done({
      id: "sho_1",
      call_id: "c1",
      type: "shell_call_output",
      output: [
        { stdout: "a", stderr: "" },
        { stdout: "", stderr: "no a" },
      ],
    }),
    done({
      id: "apc_1",
      call_id: "c2",
      type: "apply_patch_call",
      operation: { type: "create_file", path: "b", diff: "+1" },
    }),
    done({ id: "apco_1", call_id: "c2", type: "apply_patch_call_output", output: "Created b." }),
    done({ id: "lsh_1", call_id: "c3", type: "local_shell_call", action: { command: ["ls", "-l"] } }),
  );
  expect(answer.calls).toMatchObject([
    { id: "c1", name: "shell", arguments: "ls\nwc -l a", result: "a\nno a" },
    { id: "c2", name: "apply_patch", arguments: "create_file b\n+1", result: "Created b." },
    { id: "c3", name: "local_shell", arguments: "ls -l" },
  ]);
  const returned = { type: "tool_returned", id: "c1", name: "shell", text: "a", is_error: false };
  expect(withRunEvent(answer, returned).calls).toHaveLength(3);
});

test("a call that the response and the run tell of is shown once, whoever is first", () => {
  const added = (id: string, type: string, more = {}) => ({
    type: "response.output_item.added",
    item: { id, type, ...more },
  });
  const items = [
    added("fs_1", "file_search_call", { queries: ["tide"] }),
    { type: "response.output_item.done", item: { id: "fs_1", type: "file_search_call", queries: ["tide"] } },
    added("mcp_1", "mcp_call", { name: "read", arguments: "" }),
    added("fs_2", "file_search_call", { queries: ["port"] }),
    added("ci_1", "code_interpreter_call", { code: "1 + 1" }),
  ];
  const called = (id: string, name: string, given: string) => [
    { type: "tool_called", id, name, arguments: given },
    { type: "tool_returned", id, name, text: `of ${id}`, is_error: false },
  ];
  const run = [
    ...called("c1", "file_search", '{"query": "tide"}'),
    ...called("c2", "files.read", '{"path": "a"}'),
    ...called("c3", "file_search", '{"query": "port"}'),
    ...called("c4", "code_interpreter", '{"code": "1 + 1"}'),
  ];
  const hear = (answer: Answer, event: Event) =>
    event.type.startsWith("response.") ? withResponseEvent(answer, event, 0) : withRunEvent(answer, event);
  const turns = [
    [...items, ...run],
    [...run, ...items],
    items.flatMap((item, at) => [item, ...run.slice(2 * at, 2 * at + 2)]),
    run.flatMap((event, at) => [event, ...items.slice(at, at + 1)]),
  ];
  for (const events of turns) {
    const shown = events.reduce(hear, newAnswer("house")).calls;
    expect(shown.map((call) => [call.arguments, call.result])).toEqual([
      ["tide", "of c1"],
      ['{"path": "a"}', "of c2"],
      ["port", "of c3"],
      ["1 + 1", "of c4"],
    ]);
  }
});

test.each([
  ["<think>hm</think>\n\nyes", "yes", "hm"],
  ["\n<think>\nhm\n\nwell\n</think>yes", "yes", "hm\n\nwell"],
  ["<think>hm", "", "hm"],
  ["hm\n</think>\n\nyes", "yes", "hm"],
  ["<think>one</think>first\n\n<think>two</think>second", "first\n\nsecond", "one\n\ntwo"],
  ["It writes `<think>` first.", "It writes `<think>` first.", ""],
  ["It ends with `</think>`.", "It ends with `</think>`.", ""],
])("what is thought aloud is apart from the text: %j", (written, text, reasoning) => {
  expect(withoutThought({ text: written, reasoning: "" })).toEqual({ text, reasoning });
});

test.each(["", "<", "<think", "\n<think>"])("an opening that is not whole yet is no text: %j", (written) => {
  expect(withoutThought({ text: written, reasoning: "" }, true).text).toBe("");
});

test("marks of sentences stay at their sentences", () => {
  const text = "<think>hm no.</think>\n\nyes. no.";
  const unsupported = [13, 27, 31].map((at) => ({ at, reason: "name" as const }));
  const found = withoutThought({ text, reasoning: "", unsupported });
  expect(found.unsupported?.map(({ at }) => found.text.slice(0, at))).toEqual(["yes.", "yes. no."]);
});
