// Passages that a search returned. The name of a file opens it at the passage.

import { source } from "../chat/source";
import { placeLabel } from "../format";
import type { Passage } from "../passage";

export function PassageList({ passages }: { passages: Passage[] }) {
  return (
    <ol class="passages">
      {passages.map((passage) => (
        <li key={passage.rank} class="card">
          <div class="actions spread">
            <button
              type="button"
              class="link"
              onClick={() => {
                source.value = passage;
              }}
            >
              {passage.filename}
            </button>
            <span class="soft">
              {[placeLabel(passage.place), passage.score.toFixed(3)].filter(Boolean).join(" · ")}
            </span>
          </div>
          <blockquote>{passage.text}</blockquote>
        </li>
      ))}
    </ol>
  );
}
