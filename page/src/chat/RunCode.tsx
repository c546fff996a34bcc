// Python of an answer, run in the sandbox of the daemon.

import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { json } from "../api";
import type { CodeAction } from "../parts/Markdown";
import { Dialog, Trouble, useWork } from "../parts/ui";
import { ToolCall } from "../run/ToolCard";
import { t } from "../words/words";

const code = signal("");

export const RUN_CODE: CodeAction = {
  label: () => t("code.run"),
  fits: (language) => /^py(?:thon3?)?$/i.test(language),
  does: (_language, text) => {
    code.value = text;
  },
};

export function CodePanel() {
  return code.value && <CodeRun code={code.value} />;
}

function CodeRun(props: { code: string }) {
  const [run, setRun] = useState("");
  const [, error, work] = useWork();
  const start = async () => {
    const call = { json: { arguments: { code: props.code } } };
    setRun((await json<{ run: string }>("/api/tools/code_interpreter/call?wait=false", call)).run);
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: the code runs once for each opening of the panel
  useEffect(() => {
    work(start);
  }, []);
  return (
    <Dialog
      title={t("code.run")}
      side
      onClose={() => {
        code.value = "";
      }}
    >
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <pre class="document" tabIndex={0}>
        {props.code}
      </pre>
      <Trouble error={error} />
      {run && <ToolCall run={run} />}
    </Dialog>
  );
}
