// The file of an evaluation, as `portico evals run -f` takes it: its name, criteria, items and who is asked.

import { t } from "../words/words";

type Values = Record<string, unknown>;

export interface EvalFile {
  /** What is sent to make it. */
  evaluation: Values;
  source: Values;
  /** The items that stand in the file; null if it names another file. */
  items: Values | null;
}

const isMap = (value: unknown): value is Values =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Raises an `Error` with what is wrong; criteria and sources are checked by the daemon. */
export async function readEvalFile(text: string): Promise<EvalFile> {
  const { parse } = await import("yaml"); // large, and needed here alone
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

/** The fields of a YAML text; raises an `Error` for anything else. */
export async function readMapping(text: string): Promise<Values> {
  const { parse } = await import("yaml");
  const found: unknown = parse(text);
  if (!isMap(found)) throw new Error(t("searches.noParameters"));
  return found;
}
