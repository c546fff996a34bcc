/** Parses a text with one JSON value per line. Throws an `Error` with the `message` for an invalid line. */
export function readJsonLines(text: string, message: (line: number) => string): unknown[] {
  return text.split("\n").flatMap((line, number) => {
    if (!line.trim()) return [];
    try {
      return [JSON.parse(line) as unknown];
    } catch {
      throw new Error(message(number + 1));
    }
  });
}
