// Passages as events and searches carry them: for openapi.json they are objects without fields.

import type { Place } from "./types";

export interface Passage {
  rank: number;
  score: number;
  text: string;
  file_id: string;
  filename: string;
  /** As far as it is known: a page, a line, a cell. */
  place: Partial<Place>;
  store: string;
  /** The characters that the answer quotes: of `text`, from and to. */
  quote?: [number, number] | null;
}
