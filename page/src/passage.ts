// Passages in events and search results. In openapi.json they are objects without fields.

import type { Place } from "./types";

export interface Passage {
  rank: number;
  score: number;
  text: string;
  file_id: string;
  filename: string;
  /** The known parts of the position: page, line, cell. */
  place: Partial<Place>;
  store: string;
  /** The character offsets in `text` that the answer quotes: start and end. */
  quote?: [number, number] | null;
}
