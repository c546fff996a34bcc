import { describe, expect, it } from "vitest";
import agentSchema from "../../docs/agent.schema.json";
import type { JsonSchema } from "../src/parts/jsonSchema";
import { read, suggestionsAt, write } from "../src/parts/yaml";

const SCHEMA: JsonSchema = {
  type: "object",
  properties: {
    portico_flow: { const: 1 },
    durability: { type: "string", enum: ["off", "full"] },
    step: { $ref: "#/$defs/step" },
  },
  required: ["portico_flow", "step"],
  $defs: {
    around: { type: "object", properties: { name: { type: "string" }, stream: { type: "boolean" } } },
    llm: {
      allOf: [{ $ref: "#/$defs/around" }],
      properties: { op: { const: "llm" }, model: { type: "string" }, system: {} },
      required: ["op"],
    },
    pipeline: {
      allOf: [{ $ref: "#/$defs/around" }],
      properties: { op: { const: "pipeline" }, steps: { type: "array", items: { $ref: "#/$defs/step" } } },
      required: ["op", "steps"],
    },
    step: { oneOf: [{ $ref: "#/$defs/llm" }, { $ref: "#/$defs/pipeline" }] },
  },
};

const AGENT = agentSchema as JsonSchema;

function suggested(marked: string, names?: Record<string, string[]>, schema = SCHEMA) {
  const at = marked.indexOf("|");
  return suggestionsAt(schema, marked.replace("|", ""), at, names).given;
}

/** What is suggested at the bar in a text. */
function labels(marked: string, names?: Record<string, string[]>, schema = SCHEMA): string[] {
  return suggested(marked, names, schema).map((each) => each.label);
}

describe("suggestions", () => {
  it("has the fields that are not there yet", () => {
    expect(labels("portico_flow: 1\n|")).toEqual(["durability", "step"]);
    expect(labels("portico_flow: 1\ndur|")).toContain("durability");
  });
  it("asks what a step is before its fields", () => {
    expect(labels("step:\n  |")).toEqual(["op", "name", "stream"]);
    expect(labels("step:\n  op: |")).toEqual(["llm", "pipeline"]);
  });
  it("has the fields of that step alone, also in a list, also in braces", () => {
    expect(labels("step:\n  op: llm\n  |")).toEqual(["model", "system", "name", "stream"]);
    expect(labels("step:\n  op: pipeline\n  steps:\n    - op: llm\n      |")).toContain("model");
    expect(labels("step: {op: pipeline, |}")).toContain("steps");
    expect(labels("step:\n  op: pipeline\n  steps:\n    - |")).toContain("op");
  });
  it("has values of an enumeration, truth, and the names of what is there", () => {
    expect(labels("durability: |")).toEqual(["off", "full"]);
    expect(labels("step:\n  stream: |")).toEqual(["true", "false"]);
    expect(labels("step:\n  op: llm\n  model: d|", { model: ["default", "house"] })).toEqual([
      "default",
      "house",
    ]);
  });
  it("has nothing within text and comments", () => {
    expect(labels("step:\n  op: llm\n  system: >\n    Say m|")).toEqual([]);
    expect(labels("# dur|")).toEqual([]);
  });
});

describe("suggestions for an agent", () => {
  const here = (marked: string, names?: Record<string, string[]>) => labels(marked, names, AGENT);
  it("has its fields, with what they mean, and their words", () => {
    const fields = suggested("portico_agent: 1\nmodel: default\n|", {}, AGENT);
    expect(fields.map((each) => each.label)).toContain("strategy");
    expect(fields.map((each) => each.label)).not.toContain("model");
    expect(fields.find((each) => each.label === "limits")).toMatchObject({ apply: "limits:", needed: false });
    expect(fields.every((each) => each.info)).toBe(true);
    expect(suggested("|", {}, AGENT).filter((each) => each.needed)).toMatchObject([
      { label: "portico_agent" },
    ]);
    expect(here("strategy: |")).toEqual(["tools", "text_tools", "react", "plan_and_solve", "rewoo"]);
    expect(here("memory: |")).toContain("summary");
    expect(here("memory:\n  policy: window\n  |")).toEqual(["messages", "tokens", "long_term"]);
    expect(here("limits: {|}")).toEqual(["turns", "tokens", "seconds", "tool_calls"]);
    expect(here("options:\n  temp|")).toContain("temperature");
  });
  it("has names of what is there, in lists too", () => {
    expect(here("model: |", { model: ["house"] })).toEqual(["house"]);
    expect(here("stores:\n  - |", { stores: ["handbook"] })).toEqual(["handbook"]);
    expect(here("agents:\n  - |", { agents: ["clerk"] })).toEqual(["agent", "as", "clerk"]);
    expect(here("memory:\n  long_term:\n    store: |", { store: ["facts"] })).toEqual(["facts"]);
  });
  it("has the fields of an agent within an agent", () => {
    expect(here("agents:\n  - agent:\n      name: pilot\n      |")).toContain("instructions");
    expect(here("agents:\n  - agent: {name: pilot}\n    as: |")).toEqual(["tool", "handoff"]);
  });
  it("has the fields of the form that was begun", () => {
    expect(here("tools:\n  - tool: clock\n    |")).toEqual(["as", "description"]);
    expect(here("tools:\n  - function: look\n    |")).toEqual(["as", "description", "parameters", "seconds"]);
    expect(here("output:\n  type: tool\n  tool_type: code\n  |")).toEqual([
      "begin",
      "end",
      "validate",
      "code",
    ]);
  });
  it("says what a hook needs", () => {
    expect(here("hooks:\n  - on: after_agent\n    do: |")).toContain("guard");
    const hook = suggested("hooks:\n  - on: after_agent\n    do: guard\n    |", {}, AGENT);
    expect(hook.filter((each) => each.needed)).toMatchObject([{ label: "pattern", detail: "string" }]);
    expect(hook.find((each) => each.label === "pattern")?.info).toContain("search");
  });
});

describe("faults", () => {
  const text = "portico_flow: 1\nstep:\n  op: pipeline\n  steps:\n    - op: dance\n      colour: red\n";
  const placeOf = (path: string) => {
    const fault = read(text, "").faultAt(path, "wrong");
    return [fault.line, fault.column, text.slice(fault.from, fault.to)];
  };
  it("stand at the value, the field or what is around it", () => {
    expect(placeOf("flow.step.steps[0].op")).toEqual([5, 11, "dance"]);
    expect(placeOf("flow.step.steps[0].model")).toEqual([5, 7, "op"]);
    expect(placeOf("flow.step.steps")).toEqual([4, 3, "steps"]);
    expect(placeOf("")).toEqual([1, 1, "portico_flow: 1"]);
  });
  it("of the text itself have line and column", () => {
    const [fault] = read("a: 1\nb: [1, 2\n", "").faults;
    expect(fault?.line).toBeGreaterThan(1);
    expect(read("just words", "fields!").faults[0]?.message).toBe("fields!");
    expect(read("a: &a [1]\nb: *c\n", "").faults).toHaveLength(1);
  });
  it("are none in what is written", () => {
    const value = { portico_flow: 1, step: { op: "code", source: "def f(x):\n    return x\n" } };
    expect(read(write(value), "")).toMatchObject({ faults: [], value });
    expect(write(value)).toContain("source: |");
    expect(read(JSON.stringify(value), "").value).toEqual(value);
  });
});
