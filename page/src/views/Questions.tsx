// What runs ask of a person: approvals with yes and no, forms made of a schema.

import { useEffect, useState } from "preact/hooks";
import { SchemaForm } from "../parts/SchemaForm";
import type { Schema } from "../types";
import { callTool, result, tool } from "./host";
import { t } from "./words";
import { useWork } from "./work";

const POLL_INTERVAL_MS = 2_000;

export interface Question {
  id: string;
  kind: "approval" | "input";
  name: string;
  message: string;
  arguments: Record<string, unknown>;
  answer_schema: Schema | null;
}

async function asked(): Promise<Question[]> {
  const found = await callTool("portico_questions", tool.value ? { tool: tool.value } : {});
  return questionsOf(found.structuredContent);
}

/** The questions of a result. */
export function questionsOf(found: Record<string, unknown> | undefined): Question[] {
  return Array.isArray(found?.questions) ? (found.questions as Question[]) : [];
}

/** The questions of the call that is shown, looked for until it has ended. */
export function Questions() {
  const [open, setOpen] = useState<Question[]>([]);
  const [error, setError] = useState("");
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout>;
    let left = false;
    const look = async () => {
      try {
        setOpen(await asked());
        setError("");
      } catch (caught) {
        setError(caught instanceof Error ? caught.message : String(caught));
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

/** Questions, each until it is answered here. */
export function QuestionList({ questions }: { questions: Question[] }) {
  const [done, setDone] = useState<Record<string, boolean>>({});
  return (
    <>
      {questions.map((question) =>
        question.id in done ? (
          <p key={question.id} class="soft">
            {t(done[question.id] ? "views.allowed" : "views.refused", { name: question.name })}
          </p>
        ) : (
          <QuestionView
            key={question.id}
            question={question}
            onDone={(accepted) => setDone((known) => ({ ...known, [question.id]: accepted }))}
          />
        ),
      )}
    </>
  );
}

function QuestionView(props: { question: Question; onDone: (accepted: boolean) => void }) {
  const { question, onDone } = props;
  const [note, setNote] = useState("");
  const [busy, error, work] = useWork();
  const reply = (accepted: boolean, value: unknown = null) =>
    work(async () => {
      await callTool("portico_answer", { id: question.id, accepted, value, note });
      onDone(accepted);
    });
  return (
    <section class="question" aria-label={t("question.title")}>
      <p>
        <strong>{question.name}</strong> {question.message || t("question.approve")}
      </p>
      {Object.keys(question.arguments).length > 0 && <pre>{JSON.stringify(question.arguments, null, 2)}</pre>}
      {question.kind === "approval" ? (
        <div class="actions">
          <input
            value={note}
            placeholder={t("question.note")}
            aria-label={t("question.note")}
            onInput={(event) => setNote(event.currentTarget.value)}
          />
          <button type="button" disabled={busy} onClick={() => reply(false)}>
            {t("question.deny")}
          </button>
          <button type="button" class="primary" disabled={busy} onClick={() => reply(true)}>
            {t("question.allow")}
          </button>
        </div>
      ) : (
        <>
          <SchemaForm
            schema={question.answer_schema}
            send={t("question.send")}
            onSend={(value) => reply(true, value)}
          />
          <button type="button" disabled={busy} onClick={() => reply(false)}>
            {t("question.decline")}
          </button>
        </>
      )}
      {error && <p class="bad">{error}</p>}
    </section>
  );
}
