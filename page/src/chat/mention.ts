// The word at the caret that opens a menu: `/` for prompts and skills, `#` for stores and files, `@` for models and apps.

export type Sign = "/" | "#" | "@";

export interface Mention {
  sign: Sign;
  /** The text after the sign. */
  words: string;
  /** The offsets of the sign and of the caret. */
  start: number;
  end: number;
}

/** The signs with their full-width forms. Chinese input methods write `、` with the key of `/`. */
const SIGNS: Record<string, Sign> = {
  "/": "/",
  "／": "/",
  "、": "/",
  "#": "#",
  "＃": "#",
  "@": "@",
  "＠": "@",
};
/** A sign at the start of a word, up to the caret. Chinese has no spaces, but `、` and `/` occur between its words. */
const AT_CARET = /(?:^|\s)([/／、])(\S*)$|(?:^|[\s，。：；！？、]|\p{Script=Han})([#＃@＠])(\S*)$/u;

/** Returns the mention that ends at the caret, or null. */
export function mentionAt(text: string, caret: number): Mention | null {
  const match = AT_CARET.exec(text.slice(0, caret));
  if (!match) return null;
  const [, command, ofCommand, reference, ofReference] = match;
  const words = (command ? ofCommand : ofReference) ?? "";
  const sign = SIGNS[command ?? reference ?? ""];
  return sign ? { sign, words, start: caret - words.length - 1, end: caret } : null;
}
