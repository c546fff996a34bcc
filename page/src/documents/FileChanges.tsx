// The names of files that a change of a store adds, changes, moves and removes.

import { count } from "../format";
import { t } from "../words/words";

export interface FileChange {
  head: "stores.added" | "stores.changed" | "stores.moved" | "stores.removed";
  names: string[];
}

export function FileChanges({ changes }: { changes: FileChange[] }) {
  return (
    <>
      {changes
        .filter(({ names }) => names.length)
        .map(({ head, names }) => (
          <details key={head} class="aside" open>
            <summary>{t(head, { count: count(names.length) })}</summary>
            <ul>
              {names.map((name) => (
                <li key={name}>{name}</li>
              ))}
            </ul>
          </details>
        ))}
    </>
  );
}
