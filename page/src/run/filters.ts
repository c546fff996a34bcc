// Filters on file attributes as the user writes them: `team=sales and level<=2`, or a filter as JSON.

export type Filter = {
  type: string;
  key?: string;
  value?: unknown;
  filters?: Filter[];
};

const KINDS: Record<string, string> = {
  "=": "eq",
  "!=": "ne",
  ">": "gt",
  ">=": "gte",
  "<": "lt",
  "<=": "lte",
};
const SIGNS: Record<string, string> = Object.fromEntries(
  Object.entries(KINDS).map(([sign, kind]) => [kind, sign]),
);
const COMPARISON = /^([^=!<>]+?)\s*(!=|>=|<=|=|>|<)(.*)$/s;

/** Parses a filter; returns null for an empty text. Throws an error with the message `wrong` if the text is invalid. */
export function readFilter(text: string, wrong: string): Filter | null {
  const written = text.trim();
  if (!written) return null;
  if (written.startsWith("{")) {
    try {
      return JSON.parse(written) as Filter;
    } catch {
      throw new Error(wrong);
    }
  }
  const parts = written.split(/\s+and\s+/).map((part): Filter => {
    const match = COMPARISON.exec(part);
    const [, key = "", sign = "", said = ""] = match ?? [];
    if (!match) throw new Error(wrong);
    return { type: KINDS[sign] ?? "eq", key: key.trim(), value: readValue(said.trim()) };
  });
  return parts.length === 1 && parts[0] ? parts[0] : { type: "and", filters: parts };
}

/** Parses a number, `true`, `false` or a quoted text. Any other value is text. */
function readValue(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return ["string", "number", "boolean"].includes(typeof value) ? value : text;
  } catch {
    return text;
  }
}

/** Returns the text that `readFilter` parses into this filter. */
export function writeFilter(written: Record<string, unknown>): string {
  const filter = written as Filter;
  const parts = filter.type === "and" ? (filter.filters ?? []) : [filter];
  const isPlain = parts.every(
    (part) => part.key && SIGNS[part.type] && !/\sand\s|[=!<>{]/.test(`${part.key}${String(part.value)}`),
  );
  if (!isPlain) return JSON.stringify(filter);
  return parts.map((part) => `${part.key}${SIGNS[part.type]}${writtenValue(part.value)}`).join(" and ");
}

function writtenValue(value: unknown): string {
  return typeof value === "string" && readValue(value) === value && value === value.trim() && value
    ? value
    : JSON.stringify(value);
}
