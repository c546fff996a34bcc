// Questions of runs to a person, answered through the host.

import { useEffect, useState } from "preact/hooks";
import { sentence } from "../format";
import { QuestionForm } from "../parts/Question";
import type { QuestionDescription } from "../types";
import { callTool, result, tool } from "./host";
import { t } from "./words";

const POLL_INTERVAL_MS = 2_000;

async function asked(): Promise<QuestionDescription[]> {
  const found = await callTool("portico_questions", tool.value ? { tool: tool.value } : {});
  return questionsOf(found.structuredContent);
}

/** Returns the questions of a result. */
export function questionsOf(found: Record<string, unknown> | undefined): QuestionDescription[] {
  return Array.isArray(found?.questions) ? (found.questions as QuestionDescription[]) : [];
}

/** The questions of the current call, polled until it ends. */
export function Questions() {
  const [open, setOpen] = useState<QuestionDescription[]>([]);
  const [error, setError] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let left = false;
    const look = async () => {
      try {
        setOpen(await asked());
        setError("");
      } catch (caught) {
        setError(sentence(caught));
      }
      if (!left && !result.value) timer = setTimeout(look, POLL_INTERVAL_MS);
    };
    look();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, []);
  return (
    <>
      <QuestionList questions={open} />
      {error && <p class="bad">{error}</p>}
    </>
  );
}

/** A list of questions. Each stays until it is answered here. */
export function QuestionList({ questions }: { questions: QuestionDescription[] }) {
  const [done, setDone] = useState<Record<string, boolean>>({});
  return (
    <>
      {questions.map((question) =>
        question.id in done ? (
          <p key={question.id} class="soft">
            {t(done[question.id] ? "views.allowed" : "views.refused", { name: question.name })}
          </p>
        ) : (
          <QuestionForm
            key={question.id}
            question={question}
            onReply={async (accepted, value, note) => {
              await callTool("portico_answer", { id: question.id, accepted, value, note });
              setDone((known) => ({ ...known, [question.id]: accepted }));
            }}
          />
        ),
      )}
    </>
  );
}
