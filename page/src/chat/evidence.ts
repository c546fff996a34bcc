// The sentence of a passage that a sentence of an answer rests on.

/** Start and end offsets, in UTF-16 code units. */
export type Span = [number, number];

const MIN_SHARED_WORDS = 2;
/** A line that is only wrapped: its sentence goes on in the next line. */
const WRAPPED = /([^\n.!?。！？：:|])\n(?=[^\n#*|\s-])/g;

const sentences = new Intl.Segmenter(undefined, { granularity: "sentence" });
const words = new Intl.Segmenter(undefined, { granularity: "word" });

function wordsOf(text: string): Set<string> {
  const found = [...words.segment(text.toLowerCase())].filter((each) => each.isWordLike);
  return new Set(found.map((each) => each.segment));
}

/** Returns the sentences of a text with their spans, without surrounding whitespace. */
function sentencesIn(text: string): { text: string; span: Span }[] {
  return [...sentences.segment(text.replace(WRAPPED, "$1 "))].flatMap(({ segment, index }) => {
    const start = index + segment.length - segment.trimStart().length;
    const trimmed = segment.trim();
    return trimmed ? [{ text: trimmed, span: [start, start + trimmed.length] as Span }] : [];
  });
}

/** Returns the last sentence of a text. */
export function lastSentence(text: string): string {
  return sentencesIn(text).at(-1)?.text ?? "";
}

/**
 * Returns the span of the sentence of a passage that shares most with a claim, rare words first. Returns null if no
 * sentence shares enough words, or if it has none of the claim's numbers.
 */
export function evidenceIn(passage: string, claim: string): Span | null {
  const candidates = sentencesIn(passage).map((each) => ({ ...each, words: wordsOf(each.text) }));
  const wanted = wordsOf(claim);
  const numbers = [...wanted].filter((word) => /\d/.test(word));
  const rarity = (word: string) => 1 / candidates.filter((each) => each.words.has(word)).length;
  let best: { span: Span; score: number } | null = null;
  for (const each of candidates) {
    const shared = [...wanted].filter((word) => each.words.has(word));
    if (shared.length < MIN_SHARED_WORDS) continue;
    if (numbers.length && !numbers.some((number) => each.words.has(number))) continue;
    const score = shared.reduce((sum, word) => sum + rarity(word), 0);
    if (!best || score > best.score) best = { span: each.span, score };
  }
  return best?.span ?? null;
}

const CITED = /\[(\d+)\]/g;

/** Returns the sentences of an answer that cite the passage with this number. */
export function claimsOn(answer: string, rank: number): string[] {
  return [...answer.matchAll(CITED)]
    .filter(([, number]) => Number(number) === rank)
    .map(({ index }) => claimBefore(answer.slice(0, index)));
}

/** Returns the claim at the end of a text: its last sentence, from the citation before it. */
function claimBefore(text: string): string {
  const line = text.slice(text.lastIndexOf("\n") + 1);
  const pieces = line.split(CITED).filter((_, at) => at % 2 === 0);
  const claim = pieces.findLast((piece) => wordsOf(piece).size > MIN_SHARED_WORDS) ?? "";
  return lastSentence(claim);
}
