// The test of a prompt: a model answers each of its cases, in a run of an evaluation.

import { json } from "../api";
import { FormDialog } from "../parts/ui";
import { go, link } from "../route";
import type { EvalObject, Prompt } from "../types";
import { t } from "../words/words";
import { Asked, begin } from "./Evals";
import { renderPrompt } from "./promptCalls";

const ANSWER_HOLDS = {
  type: "string_check",
  name: "holds",
  input: "{{sample.output_text}}",
  operation: "ilike",
  reference: "{{item.holds}}",
};

export function View({ prompt, onClose }: { prompt: Prompt; onClose: () => void }) {
  const start = async (form: FormData) => {
    const model = String(form.get("model"));
    const rendered = await Promise.all(prompt.cases.map((each) => renderPrompt(prompt, each.arguments)));
    const items = rendered.map((messages, number) => {
      const texts = messages.map(({ content }, at) => [`message${at}`, content]);
      const { holds, answer } = prompt.cases[number] ?? {};
      return { item: { ...Object.fromEntries(texts), holds, answer } };
    });
    const test = await json<EvalObject>("/v1/evals", {
      json: {
        name: `${prompt.name} version ${prompt.version}`,
        data_source_config: { type: "custom", item_schema: { type: "object" }, include_sample_schema: true },
        testing_criteria: [ANSWER_HOLDS],
      },
    });
    const template = rendered[0]?.map(({ role }, at) => ({
      role,
      content: `{{item.message${at}}}`,
    }));
    const source = { type: "completions", model, input_messages: { type: "template", template } };
    const run = await begin(test.id, source, { type: "file_content", content: items });
    go(link("run", "evals", test.id, run.id));
  };
  return (
    <FormDialog
      title={t("prompts.test", { name: prompt.name })}
      does={t("evals.start")}
      onSend={start}
      onClose={onClose}
    >
      <p class="soft">{t("prompts.testNote", { count: prompt.cases.length })}</p>
      <Asked chosen="" />
    </FormDialog>
  );
}
