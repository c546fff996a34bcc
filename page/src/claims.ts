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

const FENCE_LINE = /(?:^|\n)[ \t>]*(?:```|~~~)[^\n]*$/;

/** The text with `mark` behind each of those sentences, where Markdown can have it. */
export function withMarks(text: string, found: Unsupported[], mark: (reason: Reason) => string): string {
  let made = "";
  let from = 0;
  for (const { at, reason } of [...found].sort((one, other) => one.at - other.at)) {
    const sentence = text.slice(from, at);
    const words = mark(reason);
    if (FENCE_LINE.test(text.slice(0, at))) made += `${sentence}\n\n${words}\n\n`;
    else if (sentence.endsWith("|")) made += `${sentence.slice(0, -1)} ${words}|`;
    else made += `${sentence} ${words}`;
    from = at;
  }
  return made + text.slice(from);
}
