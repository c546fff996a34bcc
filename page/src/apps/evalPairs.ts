// The items of two runs of an evaluation, matched by their content.

export interface Outcome {
  status: string;
  datasource_item: Record<string, unknown>;
}

/** Whether an item passes in the second run but not in the first (`right`), or the other way round (`wrong`). */
export type Change = "wrong" | "right" | "same";

export interface Pair<T> {
  first: T;
  second: T;
  change: Change;
}

/** Returns the items that both runs have, in the order of the first. An item that occurs twice is matched twice. */
export function pairsOf<T extends Outcome>(first: T[], second: T[]): Pair<T>[] {
  const others = new Map<string, T[]>();
  for (const output of second) {
    const content = JSON.stringify(output.datasource_item);
    others.set(content, [...(others.get(content) ?? []), output]);
  }
  return first.flatMap((output) => {
    const other = others.get(JSON.stringify(output.datasource_item))?.shift();
    return other ? [{ first: output, second: other, change: changeOf(output, other) }] : [];
  });
}

function changeOf(first: Outcome, second: Outcome): Change {
  const [before, after] = [first.status === "pass", second.status === "pass"];
  return before === after ? "same" : after ? "right" : "wrong";
}
