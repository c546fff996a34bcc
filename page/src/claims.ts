// Sentences of an answer that have no evidence in the passages it stands on.

/** Why a sentence has none; as the daemon says it. */
export const REASONS = ["number", "name", "date", "negation", "no_evidence", "too_long"] as const;
export type Reason = (typeof REASONS)[number];

/** Where such a sentence ends in the text of its answer. */
export interface Unsupported {
  at: number;
  reason: Reason;
}

/** A sentence that was checked. Its offsets count characters, of which some are two of a string here. */
export interface Claim {
  end: number;
  supported: boolean;
  reason: string;
  removed: boolean;
}

/** Of the claims of a message those to mark; the message begins at `begin` of `text`. */
export function unsupportedIn(text: string, claims: Claim[], begin = 0): Unsupported[] {
  return claims
    .filter((claim) => !claim.supported && !claim.removed)
    .map(({ end, reason }) => ({
      at: begin + [...text.slice(begin)].slice(0, end).join("").length,
      reason: REASONS.find((known) => known === reason) ?? "no_evidence",
    }));
}

const CLOSED_FENCE = /^[ \t>]*(?:`{3,}|~{3,})$/;

/** The text with `mark` behind each of those sentences. Of code, it stands behind its last line. */
export function withMarks(text: string, found: Unsupported[], mark: (reason: Reason) => string): string {
  const placed = found.map(({ at, reason }) => ({ place: placeOf(text, at), words: ` ${mark(reason)}` }));
  let made = "";
  let from = 0;
  for (const { place, words } of placed.sort((one, other) => one.place - other.place)) {
    made += text.slice(from, place) + words;
    from = place;
  }
  return made + text.slice(from);
}

/** Where Markdown can have the mark of a sentence that ends `at`: in its cell of a table, and not as a line of its own. */
function placeOf(text: string, at: number): number {
  const end = behind(text, at, /\s/);
  const line = text.slice(text.slice(0, end).lastIndexOf("\n") + 1, end);
  if (CLOSED_FENCE.test(line)) return behind(text, end - line.length, /[\s>]/) || end;
  return line.endsWith("|") && !line.endsWith("\\|") ? end - 1 : end;
}

/** The end of what stands before `at`, without such letters. */
function behind(text: string, at: number, letters: RegExp): number {
  let end = at;
  while (end > 0 && letters.test(text.charAt(end - 1))) end -= 1;
  return end;
}
