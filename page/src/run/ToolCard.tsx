// A tool with a form for its arguments, and a call in progress.

import { useState } from "preact/hooks";
import { json, part } from "../api";
import { QuestionView } from "../chat/AnswerView";
import { Made } from "../chat/Media";
import { SchemaForm } from "../parts/SchemaForm";
import { pretty, Trouble, useWork } from "../parts/ui";
import type { Tool, ToolResult } from "../types";
import { t } from "../words/words";
import { useProgress } from "./progress";

export function ToolCard({ tool }: { tool: Tool }) {
  const [run, setRun] = useState("");
  const [busy, error, work] = useWork();
  const traits = [
    tool.source,
    tool.needs_approval ? t("tools.approval") : "",
    tool.destructive ? t("tools.destructive") : "",
  ];
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">{tool.name}</span>
        <span class="soft">{traits.filter(Boolean).join(" · ")}</span>
      </div>
      <p class="soft">{tool.description}</p>
      <details class="aside">
        <summary>{t("tools.call")}</summary>
        <SchemaForm
          schema={{ ...tool.input_schema, properties: tool.input_schema.properties ?? {} }}
          send={busy ? t("apps.running") : t("tools.call")}
          onSend={(given) =>
            work(async () => {
              const path = `/api/tools/${part(tool.name)}/call?wait=false`;
              setRun((await json<{ run: string }>(path, { json: { arguments: given } })).run);
            })
          }
        />
        <Trouble error={error} />
        {run && <ToolCall key={run} run={run} />}
      </details>
    </li>
  );
}

/** A call in progress: its open questions and its result. */
export function ToolCall({ run }: { run: string }) {
  const { ended, result, error, questions } = useProgress<ToolResult>(run);
  const [leaving, wrong, leave] = useWork();
  const asText = result?.structured && pretty(result.structured);
  return (
    <div class="sections toolcall" aria-live="polite">
      {questions.map((question) => (
        <QuestionView key={question.id} question={question} />
      ))}
      {!ended && (
        <div class="actions">
          <span class="dots" aria-hidden="true" />
          <button
            type="button"
            disabled={leaving}
            onClick={() => leave(() => json(`/api/runs/${part(run)}/cancel`, { method: "POST" }))}
          >
            {t("stop")}
          </button>
        </div>
      )}
      <Trouble error={error || wrong} />
      {result && <pre class={result.is_error ? "bad" : ""}>{result.text}</pre>}
      {asText && !isSame(result.text, result.structured) && (
        <>
          <p class="soft">{t("tools.structured")}</p>
          <pre class="structured">{asText}</pre>
        </>
      )}
      {result?.artifacts.map((file) => (
        <Made key={file.id} file={file} />
      ))}
    </div>
  );
}

/** Returns whether a text is the JSON of a value, in which case only one of them is shown. */
function isSame(text: string, value: unknown): boolean {
  try {
    return JSON.stringify(JSON.parse(text)) === JSON.stringify(value);
  } catch {
    return false;
  }
}
