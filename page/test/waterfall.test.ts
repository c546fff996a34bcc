import { expect, test } from "vitest";
import { lengthOf, waterfall } from "../src/run/waterfall";
import type { TraceStep } from "../src/types";

function step(path: string, started_at: number, milliseconds: number, kind = "llm"): TraceStep {
  return { path, started_at, milliseconds, kind, status: "completed", attempt: 1 } as TraceStep;
}

const STEPS = [
  step("all.write", 101, 500),
  step("all.each[1].draft", 100.2, 300, "code"),
  step("all.each[0].draft", 100, 400, "code"),
  step("all.each[0].draft", 100.5, 100, "code"),
];

const shown = (kind = "") =>
  waterfall(STEPS, kind).map(({ path, depth, start, milliseconds, step: own }) => [
    depth,
    path,
    Math.round(start),
    Math.round(milliseconds),
    own !== null,
  ]);

test("steps are below the steps that contain them, which last until their last step ends", () => {
  expect(shown()).toEqual([
    [0, "all", 0, 1500, false],
    [1, "all.each[0]", 0, 600, false],
    [2, "all.each[0].draft", 0, 400, true],
    [2, "all.each[0].draft", 500, 100, true],
    [1, "all.each[1]", 200, 300, false],
    [2, "all.each[1].draft", 200, 300, true],
    [1, "all.write", 1000, 500, true],
  ]);
  expect(Math.round(lengthOf(waterfall(STEPS)))).toBe(1500);
});

test("steps of one kind keep their place in time", () => {
  expect(shown("llm")).toEqual([
    [0, "all", 1000, 500, false],
    [1, "all.write", 1000, 500, true],
  ]);
});

test("a step that is recorded itself contains its calls, and a flow of one step has its kind as a name", () => {
  const rows = waterfall([step("agent.call", 5, 10), step("agent", 5, 30)]);
  expect(rows.map(({ path, step: own }) => [path, own !== null])).toEqual([
    ["agent", true],
    ["agent.call", true],
  ]);
  expect(waterfall([step("", 5, 10, "code")])[0]?.name).toBe("code");
});
