// Formulas. Loaded with the first formula.

import katex from "katex";
import "katex/dist/katex.min.css";

const MAX_EXPANSIONS = 200;
const MAX_EM = 50;

/** Replaces the source of a formula by its rendering. An invalid formula stays as it is. */
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
