// The steps of a run as rows of a waterfall: in the order in which they started, below the steps that contain them.

import type { TraceStep } from "../types";

export interface Row {
  path: string;
  /** The last part of the path. */
  name: string;
  depth: number;
  /** Milliseconds from the start of the first step. */
  start: number;
  milliseconds: number;
  /** Null for a row that only contains other rows. */
  step: TraceStep | null;
}

interface Node extends Row {
  children: Node[];
}

/** Returns the rows of steps, of one kind if `kind` is not empty. Times are relative to the first of all steps. */
export function waterfall(steps: TraceStep[], kind = ""): Row[] {
  const begin = steps.reduce((first, step) => Math.min(first, step.started_at), Number.POSITIVE_INFINITY);
  const roots: Node[] = [];
  const nodes = new Map<string, Node>();
  // A step comes before the steps that it contains.
  const ordered = [...steps].sort(
    (one, other) => one.started_at - other.started_at || one.path.length - other.path.length,
  );
  for (const step of ordered) {
    if (kind && step.kind !== kind) continue;
    const start = 1000 * (step.started_at - begin);
    const parts = step.path.split(".");
    let siblings = roots;
    for (const [depth, name] of parts.entries()) {
      const path = parts.slice(0, depth + 1).join(".");
      const isStep = depth === parts.length - 1;
      let node = isStep ? undefined : nodes.get(path);
      if (node) {
        node.milliseconds = Math.max(node.milliseconds, start + step.milliseconds - node.start);
      } else {
        const { milliseconds } = step;
        node = {
          path,
          name: name || step.kind,
          depth,
          start,
          milliseconds,
          step: isStep ? step : null,
          children: [],
        };
        siblings.push(node);
        if (!nodes.has(path)) nodes.set(path, node);
      }
      siblings = node.children;
    }
  }
  return flattened(roots);
}

function flattened(nodes: Node[]): Row[] {
  return nodes.flatMap(({ children, ...row }) => [row, ...flattened(children)]);
}

/** Returns the milliseconds from the start of the first row to the end of the last row. */
export function lengthOf(rows: Row[]): number {
  return rows.reduce((end, row) => Math.max(end, row.start + row.milliseconds), 1);
}
