// The file of an evaluation, as `portico evals run -f` reads it: name, criteria, items and target.

import { t } from "../words/words";

type Values = Record<string, unknown>;

export interface EvalFile {
  /** The body of the request that creates the evaluation. */
  evaluation: Values;
  source: Values;
  /** The items in the file, or null if it refers to another file. */
  items: Values | null;
}

const isMap = (value: unknown): value is Values =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Parses the file. Throws an `Error` that names the problem; the daemon checks criteria and sources. */
export async function readEvalFile(text: string): Promise<EvalFile> {
  const { parse } = await import("yaml"); // large, and used only here
  const found: unknown = parse(text);
  if (!isMap(found) || !Array.isArray(found.criteria)) throw new Error(t("evals.noCriteria"));
  const data = Array.isArray(found.data) ? found.data : null;
  return {
    evaluation: {
      name: String(found.name ?? ""),
      data_source_config: {
        type: "custom",
        item_schema: isMap(found.item_schema) ? found.item_schema : { type: "object" },
        include_sample_schema: true,
      },
      testing_criteria: found.criteria,
    },
    source: isMap(found.source) ? found.source : {},
    items: data && {
      type: "file_content",
      content: data.map((item: unknown) => (isMap(item) && isMap(item.item) ? item : { item })),
    },
  };
}

/** Returns the fields of a YAML text. Throws an `Error` if the text is not a mapping. */
export async function readMapping(text: string): Promise<Values> {
  const { parse } = await import("yaml");
  const found: unknown = parse(text);
  if (!isMap(found)) throw new Error(t("searches.noParameters"));
  return found;
}
