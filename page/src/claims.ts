// Sentences of an answer without evidence in its passages.

/** Why a sentence has no evidence, as the daemon reports it. */
export const REASONS = ["number", "name", "date", "negation", "no_evidence", "too_long"] as const;
export type Reason = (typeof REASONS)[number];

/** The end of an unsupported sentence in the text of its answer. */
export interface Unsupported {
  at: number;
  reason: Reason;
}

/** A checked sentence. Its offsets count characters, some of which are two UTF-16 units in a string. */
export interface Claim {
  end: number;
  supported: boolean;
  reason: string;
  removed: boolean;
}

/** Returns the claims of a message to mark. The message starts at `begin` in `text`. */
export function unsupportedIn(text: string, claims: Claim[], begin = 0): Unsupported[] {
  return claims
    .filter((claim) => !claim.supported && !claim.removed)
    .map(({ end, reason }) => ({
      at: begin + [...text.slice(begin)].slice(0, end).join("").length,
      reason: REASONS.find((known) => known === reason) ?? "no_evidence",
    }));
}

const CLOSED_FENCE = /^[ \t>]*(?:`{3,}|~{3,})$/;

/** Returns the text with `mark` after each of these sentences. In a code block, the mark follows the last line. */
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

/**
 * Returns where Markdown allows a mark for a sentence that ends `at`: inside its table cell, never on a separate line.
 */
function placeOf(text: string, at: number): number {
  const end = behind(text, at, /\s/);
  const line = text.slice(text.slice(0, end).lastIndexOf("\n") + 1, end);
  if (CLOSED_FENCE.test(line)) return behind(text, end - line.length, /[\s>]/) || end;
  return line.endsWith("|") && !line.endsWith("\\|") ? end - 1 : end;
}

/** Returns the end of the text before `at`, without trailing `letters`. */
function behind(text: string, at: number, letters: RegExp): number {
  let end = at;
  while (end > 0 && letters.test(text.charAt(end - 1))) end -= 1;
  return end;
}
