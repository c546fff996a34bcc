import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { t } from "../words/words";
import { Blocks } from "./Blocks";

const LONG_ROWS = 100;
const MEASURED_ROWS = 25;
const LOADED_AHEAD = "2000px";

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  class?: (row: T) => string;
  /** Whether the heading is visible only to screen readers. */
  quiet?: boolean;
}

/** A table. With `text`, the user can filter its rows; `next` loads further rows. */
export function Table<T>(props: {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T) => string;
  text?: (row: T) => string;
  id?: string;
  next?: (() => void) | undefined;
}) {
  const [typed, setTyped] = useState("");
  const words = typed.toLowerCase();
  const { text, rows, columns, next } = props;
  const found = text && words ? rows.filter((row) => text(row).toLowerCase().includes(words)) : rows;
  const isLong = rows.length > LONG_ROWS;
  const table = useRef<HTMLTableElement>(null);
  const sizes = useSizes(table, isLong, columns.map((column) => column.head).join());
  const role = (name: "table" | "rowgroup" | "row" | "cell" | "columnheader") =>
    sizes ? { role: name } : {};
  const rowOf = (row: T, number: number) => (
    <tr key={props.keyOf(row)} {...role("row")} {...(sizes ? { "aria-rowindex": number + 2 } : {})}>
      {columns.map((column) => (
        <td key={column.head} class={column.class?.(row)} {...role("cell")}>
          {column.cell(row)}
        </td>
      ))}
    </tr>
  );
  return (
    <>
      {text && (
        <input
          type="search"
          placeholder={t("filter")}
          aria-label={t("filter")}
          onInput={(event) => setTyped(event.currentTarget.value)}
        />
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="wide" tabIndex={0} aria-label={props.label}>
        <table
          ref={table}
          id={props.id}
          class={sizes ? "long" : ""}
          style={sizes ? { "--columns": sizes.columns } : {}}
          {...role("table")}
          {...(sizes ? { "aria-rowcount": next ? -1 : found.length + 1 } : {})}
        >
          <thead {...role("rowgroup")}>
            <tr {...role("row")}>
              {columns.map((column) => (
                <th key={column.head} {...role("columnheader")}>
                  {column.quiet ? <span class="hidden">{column.head}</span> : column.head}
                </th>
              ))}
            </tr>
          </thead>
          {sizes ? (
            <Blocks as="tbody" rows={found} height={sizes.rowHeight}>
              {rowOf}
            </Blocks>
          ) : (
            <tbody>{found.slice(0, isLong ? MEASURED_ROWS : LONG_ROWS).map(rowOf)}</tbody>
          )}
        </table>
      </section>
      {next && <Next load={next} after={rows} isWanted={words !== ""} />}
    </>
  );
}

/**
 * Returns the column widths that the blocks of a long table share, and the approximate height of a row. They are
 * measured on the first rows, laid out as a short table.
 */
function useSizes(place: { current: HTMLTableElement | null }, isLong: boolean, about: string) {
  const [sizes, setSizes] = useState<{ about: string; columns: string; rowHeight: number } | null>(null);
  const isKnown = isLong && sizes?.about === about;
  useLayoutEffect(() => {
    const table = place.current;
    if (!isLong || isKnown || !table?.tBodies[0]) return;
    const widths = () =>
      [...table.querySelectorAll("thead th")].map((head) => head.getBoundingClientRect().width);
    const rowHeight = table.tBodies[0].getBoundingClientRect().height / table.tBodies[0].rows.length;
    const wide = widths();
    table.style.width = "0";
    const narrow = widths();
    table.style.width = "";
    const columns = wide.map((width, at) => `minmax(${narrow[at]}px, ${width}fr)`).join(" ");
    setSizes({ about, columns, rowHeight });
  }, [isLong, isKnown, about, place]);
  return isKnown ? sizes : null;
}

/** Loads the rows `after` the current ones when it comes near the viewport, or immediately if all rows are needed. */
export function Next(props: { load: () => void; after: unknown[]; isWanted?: boolean }) {
  const place = useRef<HTMLButtonElement>(null);
  const { load, after, isWanted = false } = props;
  // biome-ignore lint/correctness/useExhaustiveDependencies: loads once after these rows
  useEffect(() => {
    if (isWanted) return load();
    const options = { rootMargin: LOADED_AHEAD, scrollMargin: LOADED_AHEAD };
    const observer = new IntersectionObserver((seen) => seen.at(-1)?.isIntersecting && load(), options);
    if (place.current) observer.observe(place.current);
    return () => observer.disconnect();
  }, [after, isWanted]);
  return (
    <button ref={place} type="button" class="next" onClick={load}>
      {t("more")}
    </button>
  );
}

/** The class of less important columns. */
export const soft = () => "soft";
