// @vitest-environment jsdom
import { expect, test } from "vitest";
import { readFrame } from "../src/api";
import { quoted } from "../src/apps/Apps";
import { linesOf } from "../src/apps/EvalSearch";
import { beforeAndAfter, casesOf } from "../src/apps/Improvements";
import { improvementTexts } from "../src/apps/improvementTexts";
import { argumentsOf } from "../src/apps/Prompts";
import { mentionAt } from "../src/chat/mention";
import { asMarkdown, headline, toMessages } from "../src/chat/sessions";
import { around, placeOf, quotesOf, unitsOf } from "../src/chat/source";
import { requestFor } from "../src/chat/turn";
import { stretches } from "../src/documents/Pieces";
import { changesOf } from "../src/documents/Review";
import { rightOn } from "../src/documents/Rights";
import { reviewTexts } from "../src/documents/reviewTexts";
import { bytes, placeLabel } from "../src/format";
import { roundUp } from "../src/parts/Chart";
import { link, readRoute, route } from "../src/route";
import { readFilter, writeFilter } from "../src/run/filters";
import { BEGUN, boxStates, withStepEvent } from "../src/run/RunDiagram";
import { en } from "../src/words/en";
import { zh } from "../src/words/zh";

const raw = (sender: string, content: string, more: object = {}) => ({
  sender,
  content,
  type: null,
  extra_info: null,
  ...more,
});

const numbered = (messages: ReturnType<typeof raw>[]) =>
  toMessages(messages.map((message, at) => ({ seq: at + 1, message })));

test("each word is there in both languages, with the same places for names", () => {
  const places = (text: string) => [...text.matchAll(/\{\w+\}/g)].map(String).sort();
  for (const texts of [{ en, zh }, improvementTexts, reviewTexts] as Record<
    "en" | "zh",
    Record<string, string>
  >[])
    for (const [word, text] of Object.entries(texts.en)) {
      expect(texts.zh[word], word).toBeTruthy();
      expect(places(texts.zh[word] ?? ""), word).toEqual(places(text));
    }
});

test("an address is read as it was written", () => {
  expect(readRoute(link("documents", "a/b c", "file-1"))).toEqual({
    view: "documents",
    rest: ["a/b c", "file-1"],
  });
  expect(readRoute("")).toEqual({ view: "chat", rest: [] });
  expect(readRoute("#/chat/%E0%A4%A")).toEqual({ view: "chat", rest: ["%E0%A4%A"] });
});

test.each([
  ["documents", "library/documents"],
  ["documents/handbook/rights", "library/documents/handbook/rights"],
  ["build", "library"],
  ["build/new", "library/new"],
  ["build/apps/greeting", "library/apps/greeting"],
  ["build/skills", "library/skills"],
  ["build/evals", "run/evals"],
  ["run/tools", "library/tools"],
  ["run/tools/a%2Fb", "library/tools/a%2Fb"],
  ["run/models", "run/models"],
])("the address %s of an earlier page leads to %s", (old, current) => {
  location.hash = `#/${old}`;
  dispatchEvent(new HashChangeEvent("hashchange"));
  expect(location.hash).toBe(`#/${current}`);
  expect(route.value).toEqual(readRoute(`#/${current}`));
});

test("frames have an id and data; comments are none", () => {
  expect(readFrame('id: 3\nevent: delta\ndata: {"a": 1}')).toEqual({ id: "3", data: '{"a": 1}' });
  expect(readFrame(": keep-alive")).toBeNull();
  expect(readFrame("data: [DONE]")).toBeNull();
});

test("what an agent did goes with its answer", () => {
  const call = { id: "c1", function: { name: "calculator", arguments: "{}" } };
  const [question, answer] = numbered([
    raw("user", "2+3?"),
    raw("desk", "", { type: "tool_call", extra_info: { tool_calls: [call] } }),
    raw("calculator", "5", { type: "tool_result", extra_info: { tool_call_id: "c1", is_error: false } }),
    raw("desk", "Five."),
  ]);
  expect(question).toMatchObject({ role: "user", content: "2+3?", calls: [] });
  expect(answer?.calls).toEqual([
    { id: "c1", name: "calculator", arguments: "{}", result: "5", failed: false },
  ]);
});

test("an agent is given what is new; a model is given all, with the settings", () => {
  const history = numbered([raw("user", "one"), raw("house", "two")]);
  const asked = {
    model: "house",
    session: "conv_1",
    history,
    question: "three",
    settings: { temperature: 0 },
    isModel: true,
  };
  expect(requestFor({ ...asked, agent: true })).toEqual({
    model: "house",
    input: [{ role: "user", content: "three" }],
    conversation: "conv_1",
    background: true,
    stream: true,
  });
  expect(requestFor({ ...asked, agent: false })).toEqual({
    model: "house",
    input: [
      { role: "user", content: "one" },
      { role: "assistant", content: "two" },
      { role: "user", content: "three" },
    ],
    temperature: 0,
    background: true,
    stream: true,
  });
});

test("a model is given the stores and tools of the conversation; an app has its own", () => {
  const asked = { model: "house", agent: false, session: "conv_1", history: [], question: "one" };
  const settings = {
    stores: ["vs_1"],
    documents: "vs_2",
    tools: ["calculator"],
    servers: ["files"],
    into: "vs_1",
  };
  const given = requestFor({ ...asked, isModel: true, settings });
  expect(given.tools).toEqual([
    { type: "file_search", vector_store_ids: ["vs_1", "vs_2"] },
    { type: "mcp", server_label: "files", require_approval: "never" },
    { type: "mcp", server_label: "portico", require_approval: "never", allowed_tools: ["calculator"] },
  ]);
  expect(given.tool_choice).toEqual({ type: "file_search" });
  expect(given).not.toHaveProperty("into");
  const free = requestFor({ ...asked, isModel: true, settings: { ...settings, searches_at_will: true } });
  expect(free).not.toHaveProperty("tool_choice");
  expect(requestFor({ ...asked, isModel: false, settings })).not.toHaveProperty("tools");
});

test("a passage is found by its place, by its text, and where spaces differ", () => {
  const text = "The rent\n is  840 euros. The rent is 840 euros.";
  const wanted = "rent is 840";
  const place = { start: 29, end: 40 };
  expect(around(text, { text: wanted, place })[0].length).toBe(29);
  expect(around(text, { text: wanted, place: {} })[1]).toBe(wanted);
  expect(around("The rent\n is  840.", { text: wanted, place: {} })[1]).toBe("rent\n is  840");
  expect(around(text, { text: "nowhere", place: {} })).toEqual([text, "", ""]);
});

test("a place is labelled as the SDK does", () => {
  expect(placeLabel({ line: 12, heading: ["Install", "Linux"] })).toBe("line 12 · Install › Linux");
  expect(placeLabel({ page: 3, line: 4 })).toBe("p. 3");
  expect(placeLabel({ seconds: 3723 })).toBe("1:02:03");
  expect(placeLabel({ sheet: "Fees", cell: "A2:C9" })).toBe("Fees A2:C9");
});

test("figures are short", () => {
  expect([bytes(0), bytes(999), bytes(1_500), bytes(44_000_000), bytes(null)]).toEqual([
    "0 B",
    "999 B",
    "1.5 kB",
    "44 MB",
    "",
  ]);
});

test("a headline is the beginning of the question on one line", () => {
  expect(headline("a\n b")).toBe("a b");
  expect(headline("x".repeat(80))).toHaveLength(60);
});

test("a conversation is exported with its sources", () => {
  const passage = { rank: 1, filename: "lease.md" };
  const said = numbered([
    raw("user", "Rent?"),
    raw("docs", "840 [1]", { extra_info: { passages: [passage] } }),
  ]);
  const session = {
    id: "c",
    app: "docs",
    name: "c",
    title: "Rent",
    metadata: {},
    owner: "",
    created_at: 0,
    updated_at: 0,
  };
  expect(asMarkdown(session, said)).toBe("# Rent\n\n## You\n\nRent?\n\n## docs\n\n840 [1]\n\n1. lease.md\n");
});

test("the places of a prompt become its arguments, each once, and those that are known stay", () => {
  const known = [{ name: "tone", description: "How it sounds." }];
  expect(argumentsOf("{tone}: {topic}, {topic}, {{kept}}", known)).toEqual([
    ...known,
    { name: "topic", required: true },
  ]);
});

test("an axis ends at a round number", () => {
  expect([0.03, 1, 2.5, 7, 480].map(roundUp)).toEqual([0.05, 1, 5, 10, 500]);
});

test("pieces of a text are marked where they stand, what two share belongs to both, and no more than is seen", () => {
  const spans = [[0, 6], [4, 10], null, [20, 30]] as [number, number][];
  expect(stretches(spans, 0, 12)).toEqual([
    { start: 0, end: 4, within: [0] },
    { start: 4, end: 6, within: [0, 1] },
    { start: 6, end: 10, within: [1] },
    { start: 10, end: 12, within: [] },
  ]);
  expect(stretches(spans, 25, 40)).toEqual([
    { start: 25, end: 30, within: [3] },
    { start: 30, end: 40, within: [] },
  ]);
  expect(stretches([], 0, 3)).toEqual([{ start: 0, end: 3, within: [] }]);
});

test("places count whole characters, of which some take two units", () => {
  const text = "𝄞 one 𝄞 one";
  expect([0, 1, 2, 6, 7, 8, 11].map(unitsOf(text))).toEqual([0, 2, 3, 7, 9, 10, 13]);
  expect(placeOf(text, { text: "one", place: { start: 8, end: 11 } })).toEqual([10, 13]);
  expect(placeOf(text, { text: "two", place: { start: 8, end: 11 } })).toBeNull();
});

test("a name is one word for a shell, whatever stands in it", () => {
  expect(quoted("hand-book_2.1")).toBe("hand-book_2.1");
  expect(quoted("it's; rm -rf $HOME")).toBe("'it'\\''s; rm -rf $HOME'");
});

test("scores are drawn over the setting that is a number, or by rank", () => {
  const trial = (settings: Record<string, unknown>, score: number | null) =>
    ({ settings, score }) as Parameters<typeof linesOf>[0][number];
  const warm = linesOf([
    trial({ model: "b", t: 1 }, 0.9),
    trial({ model: "a", t: 1 }, 0.5),
    trial({ model: "b", t: 0 }, 0.4),
    trial({ model: "a", t: 0 }, null),
  ]);
  expect(warm.xName).toBe("t");
  expect(warm.lines).toEqual([
    {
      name: "b",
      points: [
        { x: 0, y: 0.4 },
        { x: 1, y: 0.9 },
      ],
    },
    { name: "a", points: [{ x: 1, y: 0.5 }] },
  ]);
  const words = linesOf([trial({ model: "b" }, 0.9), trial({ model: "a" }, 0.5)]);
  expect(words.lines.map((line) => line.points)).toEqual([
    [
      { x: 1, y: 0.9 },
      { x: 2, y: 0.5 },
    ],
  ]);
});

test("filters are read as a person writes them, and written so that they are read again", () => {
  const sales = { type: "eq", key: "team", value: "sales" };
  expect(readFilter(" team = sales and level<=2", "")).toEqual({
    type: "and",
    filters: [sales, { type: "lte", key: "level", value: 2 }],
  });
  expect(readFilter("", "")).toBeNull();
  expect(() => readFilter("sales", "wrong")).toThrow("wrong");
  for (const filter of [
    sales,
    { type: "eq", key: "level", value: "1" },
    { type: "ne", key: "open", value: true },
    { type: "eq", key: "team", value: "you and me" },
    { type: "in", key: "team", value: ["a", "b"] },
    { type: "or", filters: [sales, sales] },
    { type: "and", filters: [sales, { type: "gt", key: "level", value: 0.5 }] },
  ]) {
    expect(readFilter(writeFilter(filter), "")).toEqual(filter);
  }
  expect(rightOn(["chat", "stores:*:manage", "stores:a:read", "stores:a:write"], ["a", "vs_1"])).toBe(
    "write",
  );
});

test("the boxes of a diagram show what became of the steps of a run", () => {
  const events = [
    { type: "step_started", path: "all" },
    { type: "step_started", path: "all.each" },
    { type: "step_started", path: "all.each[0].write" },
    { type: "step_finished", path: "all.each[0].write" },
    { type: "step_started", path: "all.each[1].write" },
    { type: "step_finished", path: "all.each[1].write", error: "No." },
    { type: "step_started", path: "all.each[2].write#2" },
    { type: "asked", id: "q", name: "write" },
  ];
  const course = events.reduce(withStepEvent, BEGUN);
  const live = boxStates(course, [], false);
  expect(live.get("all")?.state).toBe("running");
  expect(live.get("all.each.write")).toEqual({ state: "waiting", done: 2, begun: 3 });
  const answered = boxStates(withStepEvent(course, { type: "answered", id: "q" }), [], false);
  expect(answered.get("all.each.write")?.state).toBe("running");
  const trace = [{ path: "all.rest", status: "skipped" }] as Parameters<typeof boxStates>[1];
  const ended = boxStates(course, trace, true);
  expect(ended.get("all.each.write")?.state).toBe("failed");
  expect(ended.get("all")?.state).toBe("stopped");
  expect(ended.get("all.rest")).toEqual({ state: "skipped", done: 1, begun: 1 });
});

test.each([
  ["> It listens on port\n> 7419. [2]", ["It listens  on port 7419."]],
  ["> It listens on port 7419. [1]", []],
  ["> | a | b |\n> | --- | --- |\n> | 3 | 4 |\n>\n> [2]", ["| 3 | 4 |"]],
  [
    "> Ports:\n>\n> - 7419\n> - 7420 [2]\n\n> | a | b |\n> | --- | --- |\n> | 1 | 2 |\n>\n> [2]",
    ["| 1 | 2 |", "- 7419\n- 7420"],
  ],
  ["> It listens on port 1. [2]", []],
  ["It listens on port 7419. [2]", ["𝒜 It listens  on port 7419."]],
  ["It listens on port 1. [2]", []],
])("what an answer quotes is marked in its passage: %j", (answer, quotes) => {
  const text =
    "𝒜 It listens  on port 7419.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 |\n\nPorts: many\n- 7419\n- 7420\n";
  const passage = { rank: 2, score: 1, text, file_id: "f", filename: "f.md", place: {}, store: "s" };
  expect(quotesOf(answer, passage).map((span) => text.slice(...span))).toEqual(quotes);
});

test("the characters that the daemon says are quoted are marked", () => {
  const text = "𝒜 first. Second.";
  const place = { rank: 1, score: 1, file_id: "f", filename: "f.md", place: {}, store: "s" };
  const [span] = quotesOf("", { ...place, text, quote: [9, 16] });
  expect(text.slice(...(span ?? [0, 0]))).toBe("Second.");
});

test.each([
  [
    "The deposit is two months [1], and the rent is 840 euros a month [1].",
    0,
    "The deposit is two months\nof the basic rent.",
  ],
  [
    "The deposit is two months [1], and the rent is 840 euros a month [1].",
    1,
    "The rent of the flat is 840 euros a month.",
  ],
  [
    "You can end it with three months' notice. [2][1]",
    0,
    "Either side may end the lease with three months' notice.",
  ],
  ["Cats are welcome. [1]", 0, ""],
  ["The rent is 95 euros. [1]", 0, ""],
  ["押金是两个月的租金 [1]。", 0, "押金为两个月租金。"],
])("the sentence that a claim rests on is marked: %j, citation %i", (answer, nth, quoted) => {
  const text =
    "# Lease\n\nThe rent of the flat is 840 euros a month. The deposit is two months\nof the basic rent. " +
    "Either side may end the lease with three months' notice.\n\n房租每月840欧元。押金为两个月租金。提前三个月通知。";
  const passage = { rank: 1, score: 1, text, file_id: "f", filename: "f.md", place: {}, store: "s" };
  expect(
    quotesOf(answer, passage, nth)
      .map((span) => text.slice(...span))
      .join(),
  ).toBe(quoted);
});

test.each([
  ["/", "/", "", 0],
  ["say @ho", "@", "ho", 4],
  ["／tr", "/", "tr", 0],
  ["、tr", "/", "tr", 0],
  ["租金＃手", "#", "手", 2],
  ["问：@模", "@", "模", 2],
])("the word %s at the caret opens a menu", (text, sign, words, start) => {
  expect(mentionAt(text, text.length)).toEqual({ sign, words, start, end: text.length });
});

test.each(["a@b", "1/2", "# heading", "苹果、香蕉", "和/或", ""])("the text %s opens no menu", (text) => {
  expect(mentionAt(text, text.length)).toBeNull();
});

test("a file with a new and an old content is a changed file", () => {
  const review = { new_files: ["new.md", "both.md"], old_files: ["both.md", "old.md"] };
  expect(changesOf(review).map(({ names }) => names)).toEqual([["new.md"], ["both.md"], ["old.md"]]);
});

test("a line of cases contains a case, or an object with a case", () => {
  expect(casesOf('{"question": "one"}\n\n{"item": {"question": "two"}}\n')).toEqual([
    { question: "one" },
    { question: "two" },
  ]);
  expect(() => casesOf('{"question": "one"}\nnonsense')).toThrow("Line 2 is not JSON.");
});

test("a figure before and after a change is empty unless both were measured", () => {
  const [before, after] = [
    { score: 0.25, seconds: 1, tokens: 10, cost: null },
    { score: 1, seconds: 2, tokens: 12, cost: 0.5 },
  ];
  expect(beforeAndAfter(before, after, "score", String)).toBe("0.25 → 1");
  expect(beforeAndAfter(before, after, "cost", String)).toBe("");
  expect(beforeAndAfter(before, null, "tokens", String)).toBe("");
});
