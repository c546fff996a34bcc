import { describe, expect, it } from "vitest";
import { type JsonSchema, read, suggestionsAt, write } from "../src/parts/yaml";

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

/** What is suggested at the bar in a text. */
function labels(marked: string, names?: Record<string, string[]>): string[] {
  const at = marked.indexOf("|");
  return suggestionsAt(SCHEMA, marked.replace("|", ""), at, names).given.map((each) => each.label);
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
