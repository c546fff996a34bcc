// Long lists. All rows are in the page, where the browser's own search, Tab and readers find them; but in blocks, of
// which the browser lays out those that are near what is seen, and of which those alone are drawn at once.

import type { ComponentChildren } from "preact";
import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

const BLOCK_ROWS = 25;
const LEFT_TO_FRAME_MS = 3;

type Tag = "tbody" | "ul" | "div";

/** Rows in blocks. `height`: of a row that was not laid out yet, about, in pixels. */
export function Blocks<T>(props: {
  as: Tag;
  rows: T[];
  height: number;
  children: (row: T, number: number) => ComponentChildren;
}) {
  const { rows, children } = props;
  // Blocks of which a filter leaves nothing are hidden, and emptied when there is time.
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

/** One block. While it is far away it stays as it is; other rows are drawn into it when there is time. */
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
    /** It is drawn the next time, wherever it is. */
    isDue: false,
    /** It was not drawn when it last could have been. */
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

/** Do it in a moment in which nothing else is done, one thing after the other; returns what forgets it. */
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
