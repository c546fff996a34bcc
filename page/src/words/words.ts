// The texts of the page in the user's language. Each language is one file; large views bring their own texts.

import { effect, signal } from "@preact/signals";
import { recall, remember } from "../kept";
import { en } from "./en";
import { zh } from "./zh";

export type Word = keyof typeof en;
export type Language = "en" | "zh";

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

/** Returns a function that returns the text for a key, with each `{name}` replaced by the given value. */
export function textsOf<Key extends string>(texts: Record<Language, Record<Key, string>>) {
  return (key: Key, given: Record<string, string | number> = {}): string =>
    texts[language.value][key].replace(/\{(\w+)\}/g, (whole, name: string) => String(given[name] ?? whole));
}

export const t = textsOf<Word>({ en, zh });
