// Formulas. Fetched when the first one is met.

import katex from "katex";
import "katex/dist/katex.min.css";

const MAX_EXPANSIONS = 200;
const MAX_EM = 50;

/** Put the drawn formula in the place of its source; one that is wrong stays as it was written. */
export function draw(place: HTMLElement): void {
  const source = place.dataset.math ?? "";
  try {
    katex.render(source, place, {
      displayMode: place.dataset.display === "1",
      maxExpand: MAX_EXPANSIONS,
      maxSize: MAX_EM,
      trust: false,
      strict: "ignore",
    });
  } catch {
    place.textContent = source;
  }
}
