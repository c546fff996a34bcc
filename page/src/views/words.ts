// The texts of a view, in the language of its host. Replaces words/words.ts, which stores the user's choice: a view has
// no storage, and contains only the texts that it uses.

import { effect, signal } from "@preact/signals";
import { en } from "../words/en";
import type { Language, Word } from "../words/words";
import { zh } from "../words/zh";

export type { Language, Word };

export const language = signal<Language>(navigator.language.startsWith("zh") ? "zh" : "en");

export function speak(chosen: Language): void {
  language.value = chosen;
}

effect(() => {
  document.documentElement.lang = language.value;
});

export function t(word: Word, given: Record<string, string | number> = {}): string {
  return (language.value === "zh" ? zh : en)[word].replace(/\{(\w+)\}/g, (whole, name: string) =>
    String(given[name] ?? whole),
  );
}
