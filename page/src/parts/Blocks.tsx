// Long lists. All rows are in the document, where the browser's search, Tab and screen readers find them. They are
// grouped in blocks: the browser lays out the blocks near the viewport, and only those are drawn immediately.

import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const BLOCK_ROWS = 25;
const LEFT_TO_FRAME_MS = 3;

type Tag = "tbody" | "ul" | "div";

/** Rows in blocks. `height`: the estimated height of a row that has not been laid out, in pixels. */
export function Blocks<T>(props: {
  as: Tag;
  rows: T[];
  height: number;
  children: (row: T, number: number) => ComponentChildren;
}) {
  const { rows, children } = props;
  // Blocks that a filter leaves without rows are hidden, and emptied when the page is idle.
  const most = useRef(0);
  most.current = Math.max(most.current, Math.ceil(rows.length / BLOCK_ROWS));
  const begins = Array.from({ length: most.current }, (_, at) => at * BLOCK_ROWS);
  return (
    <>
      {begins.map((begin) => {
        const mine = rows.slice(begin, begin + BLOCK_ROWS);
        return (
          <Block
            key={begin}
            as={props.as}
            rows={mine}
            height={props.height}
            isFirst={begin === 0}
            draw={() => mine.map((row, at) => children(row, begin + at))}
          />
        );
      })}
    </>
  );
}

/** One block. Far from the viewport it keeps its content; new rows are drawn when the page is idle. */
function Block<T>(props: {
  as: Tag;
  rows: T[];
  height: number;
  isFirst: boolean;
  draw: () => ComponentChildren;
}) {
  const { as: Tag, rows, height, isFirst, draw } = props;
  const place = useRef<HTMLTableSectionElement & HTMLUListElement & HTMLDivElement>(null);
  const [, setRound] = useState(0);
  const state = useRef({
    isNear: isFirst || !CSS.supports("content-visibility", "auto"),
    /** Draw it in the next render, wherever it is. */
    isDue: false,
    /** The last render did not draw it. */
    isOld: true,
    drawn: null as T[] | null,
  });
  const { current } = state;
  const draws = (current.isNear && rows.length > 0) || current.isDue;
  current.isDue = false;
  current.isOld = !draws;
  if (draws) current.drawn = rows;
  const { drawn } = current;
  const hasOthers = drawn?.length !== rows.length || rows.some((row, at) => row !== drawn[at]);
  useLayoutEffect(() => {
    const element = place.current;
    const onChange = (event: Event) => {
      if (event.target !== element) return;
      current.isNear = !(event as ContentVisibilityAutoStateChangeEvent).skipped;
      if (current.isNear && current.isOld) setRound((before) => before + 1);
    };
    element?.addEventListener("contentvisibilityautostatechange", onChange);
    return () => element?.removeEventListener("contentvisibilityautostatechange", onChange);
  }, [current]);
  useEffect(() => {
    if (!hasOthers) return;
    return whenIdle(() => {
      current.isDue = true;
      setRound((before) => before + 1);
    });
  }, [hasOthers, current]);
  return (
    <Tag
      ref={place}
      class="block"
      hidden={!rows.length}
      style={{ containIntrinsicHeight: `auto ${rows.length * height}px` }}
    >
      {drawn && <Rows draw={draw} stays={!draws} />}
    </Tag>
  );
}

const Rows = memo(
  ({ draw }: { draw: () => ComponentChildren; stays: boolean }) => <>{draw()}</>,
  (_before, now) => now.stays,
);

const waiting = new Set<() => void>();
let asked = false;

/** Runs `work` when the page is idle, one task after another. Returns a function that cancels it. */
function whenIdle(work: () => void): () => void {
  waiting.add(work);
  askForTime();
  return () => waiting.delete(work);
}

function askForTime(): void {
  if (asked || !waiting.size) return;
  asked = true;
  const begin = (deadline?: IdleDeadline) => {
    asked = false;
    const [next] = waiting;
    if (next && (deadline?.timeRemaining() ?? LEFT_TO_FRAME_MS) >= LEFT_TO_FRAME_MS) {
      waiting.delete(next);
      next();
    }
    askForTime();
  };
  if ("requestIdleCallback" in window) requestIdleCallback(begin);
  else setTimeout(begin, LEFT_TO_FRAME_MS);
}
