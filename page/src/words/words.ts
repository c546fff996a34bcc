// The texts of the page in the user's language. Each language is one file.

import { effect, signal } from "@preact/signals";
import { recall, remember } from "../kept";
import { en } from "./en";
import { zh } from "./zh";

export type Word = keyof typeof en;
export type Language = "en" | "zh";

const WORDS: Record<Language, Record<Word, string>> = { en, zh };

function preferred(): Language {
  const chosen = recall("language") || navigator.language;
  return chosen.startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(preferred());

export function speak(chosen: Language): void {
  remember("language", chosen);
  language.value = chosen;
}

effect(() => {
  document.documentElement.lang = language.value;
});

/** Returns the text for a key, with each `{name}` replaced by the given value. */
export function t(word: Word, given: Record<string, string | number> = {}): string {
  return WORDS[language.value][word].replace(/\{(\w+)\}/g, (whole, name: string) =>
    String(given[name] ?? whole),
  );
}
