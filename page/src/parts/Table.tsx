import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { count } from "../format";
import { t } from "../words/words";

const PAGE_SIZE = 100;

export interface Column<T> {
  head: string;
  cell: (row: T) => ComponentChildren;
  class?: (row: T) => string;
  /** The heading is for those who hear the page alone. */
  quiet?: boolean;
}

/** Rows under headings, a page at a time. With `text`, they are filtered by what is typed. */
export function Table<T>(props: {
  label: string;
  columns: Column<T>[];
  rows: T[];
  keyOf: (row: T) => string;
  text?: (row: T) => string;
  id?: string;
  /** How many are shown at first. */
  most?: number;
}) {
  const [typed, setTyped] = useState("");
  const [most, setMost] = useState(props.most ?? PAGE_SIZE);
  const words = typed.toLowerCase();
  const { text } = props;
  const found =
    text && words ? props.rows.filter((row) => text(row).toLowerCase().includes(words)) : props.rows;
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
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
      <section class="wide" tabIndex={0} aria-label={props.label}>
        <table id={props.id}>
          <thead>
            <tr>
              {props.columns.map((column) => (
                <th key={column.head}>
                  {column.quiet ? <span class="hidden">{column.head}</span> : column.head}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {found.slice(0, most).map((row) => (
              <tr key={props.keyOf(row)}>
                {props.columns.map((column) => (
                  <td key={column.head} class={column.class?.(row)}>
                    {column.cell(row)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </section>
      {found.length > most && (
        <button type="button" onClick={() => setMost(most + PAGE_SIZE)}>
          {t("more")} ({count(found.length - most)})
        </button>
      )}
    </>
  );
}

/** For columns of lesser weight. */
export const soft = () => "soft";
