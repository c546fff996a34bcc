// A question of a run to a person: an approval, or a form generated from a schema.

import { useState } from "preact/hooks";
import type { QuestionDescription } from "../types";
import { t } from "../words/words";
import { SchemaForm } from "./SchemaForm";
import { useWork } from "./work";

/** A question. `onReply` receives the answer: whether it is allowed, the value of a form, and a note. */
export function QuestionForm(props: {
  question: QuestionDescription;
  onReply: (accepted: boolean, value: unknown, note: string) => Promise<unknown>;
}) {
  const { question, onReply } = props;
  const [note, setNote] = useState("");
  const [busy, error, work] = useWork();
  const reply = (accepted: boolean, value: unknown = null) => work(() => onReply(accepted, value, note));
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
            label={t("form.answer")}
            onSend={(value) => reply(true, value)}
          />
          <button type="button" class="quiet" disabled={busy} onClick={() => reply(false)}>
            {t("question.decline")}
          </button>
        </>
      )}
      {error && (
        <p class="bad" role="alert">
          {error}
        </p>
      )}
    </section>
  );
}
