// Names with values as the user writes them, one `name=value` per line.

import { t } from "../words/words";

/** Parses pairs. Throws an error that names the first line without `name=`. */
export function readPairs(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim());
  return Object.fromEntries(
    lines.map((line) => {
      const [name = "", ...value] = line.split("=");
      if (!name.trim() || !value.length) throw new Error(t("pairs.wrong", { line }));
      return [name.trim(), value.join("=").trim()];
    }),
  );
}

export function writePairs(pairs: Record<string, unknown>): string[] {
  return Object.entries(pairs).map(([name, value]) => `${name}=${value}`);
}

/** Parses a text as JSON. A text that is not valid JSON is returned as it is. */
export function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
