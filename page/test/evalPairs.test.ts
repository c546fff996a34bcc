import { expect, test } from "vitest";
import { pairsOf } from "../src/apps/evalPairs";

const output = (question: string, status: string) => ({
  status,
  datasource_item: { question },
});

test("items are matched by content, and an error counts as not passed", () => {
  const first = [
    output("a", "pass"),
    output("b", "fail"),
    output("c", "error"),
    output("d", "pass"),
    output("gone", "pass"),
  ];
  const second = [
    output("new", "pass"),
    output("d", "error"),
    output("c", "fail"),
    output("b", "pass"),
    output("a", "pass"),
  ];
  expect(
    pairsOf(first, second).map(({ first: one, change }) => [one.datasource_item.question, change]),
  ).toEqual([
    ["a", "same"],
    ["b", "right"],
    ["c", "same"],
    ["d", "wrong"],
  ]);
});

test("an item that occurs twice is matched with another item each time", () => {
  const first = [output("a", "pass"), output("a", "pass"), output("a", "pass")];
  const second = [output("a", "fail"), output("a", "pass")];
  expect(pairsOf(first, second).map(({ change }) => change)).toEqual(["wrong", "same"]);
});
