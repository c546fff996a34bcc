// The questions that guard a store, and the last check of a change of its files.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { count } from "../format";
import { IconButton } from "../parts/Icon";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import { Confirm, FormDialog, Listing, Trouble, useLoaded, useWork } from "../parts/ui";
import { refresh } from "../status";
import type { GuardQuestion, ReviewedPassage, Store, StoreFile, StoreReview } from "../types";
import { t, textsOf } from "../words/words";
import { type FileChange, FileChanges } from "./FileChanges";
import { reviewTexts } from "./reviewTexts";

const POLL_INTERVAL_MS = 2_000;
const MAX_FILES = 1_000;
/** The maximum number of added, and of removed, file names in a review. */
const MAX_NAMES = 100;
const say = textsOf(reviewTexts);
const RULES = ["hold", "warn", "off"] as const;
const COLOURS: Partial<Record<StoreReview["state"], string>> = {
  held: "bad",
  warned: "bad",
  passed: "good",
  accepted: "good",
};

/** Returns the files of a change by what becomes of them. A file with a new and an old content is changed. */
export function changesOf({
  new_files,
  old_files,
}: Pick<StoreReview, "new_files" | "old_files">): FileChange[] {
  return [
    { head: "stores.added", names: new_files.filter((name) => !old_files.includes(name)) },
    { head: "stores.changed", names: new_files.filter((name) => old_files.includes(name)) },
    { head: "stores.removed", names: old_files.filter((name) => !new_files.includes(name)) },
  ];
}

export function View({ store }: { store: Store }) {
  const path = `/api/stores/${part(store.id)}`;
  const review = useLoaded(() => json<StoreReview>(`${path}/review`), path, POLL_INTERVAL_MS);
  const state = review.value?.state;
  const questions = useRemaining(
    useLoaded(() => rows<GuardQuestion>(`${path}/guards`), `${path} ${state} ${review.value?.created_at}`),
  );
  const [isAdding, setIsAdding] = useState(false);
  return (
    <>
      <div class="actions spread">
        <h1>{t("review.title")}</h1>
        {!questions.denied && (
          <button type="button" class="primary" onClick={() => setIsAdding(true)}>
            {say("add")}
          </button>
        )}
      </div>
      <Rule store={store} />
      <Trouble error={review.error} retry={review.retry} />
      {review.value && state !== "none" && (
        <ReviewView path={path} review={review.value} onSettle={review.reload} />
      )}
      <h2>{say("questions")}</h2>
      <Listing found={questions} none={say("none")} note={say("noneNote")}>
        {(listed) => <QuestionTable path={path} questions={listed} onRemove={questions.reload} />}
      </Listing>
      {isAdding && <NewQuestion path={path} onAdd={questions.reload} onClose={() => setIsAdding(false)} />}
    </>
  );
}

/** What happens to a change that turns answers wrong. */
function Rule({ store }: { store: Store }) {
  const [busy, error, work] = useWork();
  const change = (guard: string) =>
    work(async () => {
      await json(`/api/stores/${part(store.id)}`, { method: "PATCH", json: { guard } });
      await refresh();
    });
  return (
    <div class="fields">
      <label>
        <span>{say("rule")}</span>
        <select name="guard" disabled={busy} onChange={(event) => change(event.currentTarget.value)}>
          {RULES.map((rule) => (
            <option key={rule} value={rule} selected={rule === store.guard}>
              {say(rule)}
            </option>
          ))}
        </select>
      </label>
      <Trouble error={error} />
    </div>
  );
}

/** A check: its files, the questions whose answers turned wrong, and the decision about a change that is held. */
function ReviewView(props: { path: string; review: StoreReview; onSettle: () => void }) {
  const { path, review, onSettle } = props;
  const [isRejecting, setIsRejecting] = useState(false);
  const [busy, error, work] = useWork();
  const settle = (decision: "accept" | "reject") =>
    work(async () => {
      await json(`${path}/review/${decision}`, { method: "POST" });
      onSettle();
      await refresh();
    });
  const isCut = Math.max(review.new_files.length, review.old_files.length) === MAX_NAMES;
  return (
    <>
      <h2>{say("last")}</h2>
      <p id="reviewstate" class={COLOURS[review.state] ?? "soft"} aria-live="polite">
        {say(review.state)}
      </p>
      {review.state === "held" && (
        <div class="actions">
          <button type="button" class="primary" disabled={busy} onClick={() => settle("accept")}>
            {say("accept")}
          </button>
          <button type="button" class="danger" disabled={busy} onClick={() => setIsRejecting(true)}>
            {say("reject")}
          </button>
        </div>
      )}
      <Trouble error={error} />
      <ul class="cards" id="wronganswers">
        {review.wrong.map((answer) => (
          <li key={answer.id} class="card">
            <span class="name">{answer.question}</span>
            <Quote label={say("present")} passage={answer.present_passage} />
            <Quote label={say("new")} passage={answer.new_passage} />
          </li>
        ))}
        {review.unjudged.map(({ id, question, reason }) => (
          <li key={id} class="card">
            <span class="name">{question}</span>
            <p class="bad">{reason}</p>
          </li>
        ))}
      </ul>
      <FileChanges changes={changesOf(review)} />
      {isCut && <p class="soft">{t("chunkers.first", { count: count(MAX_NAMES) })}</p>}
      {isRejecting && (
        <Confirm
          title={say("rejectNote")}
          does={say("reject")}
          onClose={() => setIsRejecting(false)}
          onYes={() => settle("reject")}
        />
      )}
    </>
  );
}

function Quote({ label, passage }: { label: string; passage: ReviewedPassage | null }) {
  return (
    <>
      <p class="soft">
        {label}: {passage?.filename ?? say("noPassage")}
      </p>
      {passage && <blockquote>{passage.text}</blockquote>}
    </>
  );
}

function QuestionTable(props: { path: string; questions: GuardQuestion[]; onRemove: () => void }) {
  const { path, questions, onRemove } = props;
  const remove = ({ id, question }: GuardQuestion) =>
    removeLater({
      id,
      label: t("files.removed", { name: question }),
      send: async () => {
        await json(`${path}/guards/${part(id)}`, { method: "DELETE" });
        onRemove();
      },
    });
  return (
    <Table
      label={say("questions")}
      id="guardquestions"
      rows={questions}
      keyOf={(item) => item.id}
      text={(item) => `${item.question} ${item.file}`}
      columns={[
        { head: t("evals.question"), cell: (item) => item.question },
        {
          head: t("evals.answer"),
          class: soft,
          cell: (item) => [item.file, item.passage, ...item.facts].filter(Boolean).join(" · "),
        },
        {
          head: t("files.state"),
          class: (item) => (item.passes ? "good" : "bad"),
          cell: (item) => t(item.passes ? "evals.pass" : "evals.fail"),
        },
        {
          head: t("actions"),
          quiet: true,
          cell: (item) => (
            <IconButton
              icon="remove"
              label={t("files.remove", { name: item.question })}
              onClick={() => remove(item)}
            />
          ),
        },
      ]}
    />
  );
}

function NewQuestion(props: { path: string; onAdd: () => void; onClose: () => void }) {
  const { path, onAdd, onClose } = props;
  const files = useLoaded(() => rows<StoreFile>(`${path}/files?limit=${MAX_FILES}`), path);
  const add = async (form: FormData) => {
    const [question, file, passage] = ["question", "file", "passage"].map((name) => String(form.get(name)));
    const facts = String(form.get("facts"))
      .split("\n")
      .filter((line) => line.trim());
    await json(`${path}/guards`, { json: { questions: [{ question, file, passage, facts }] } });
    onAdd();
  };
  return (
    <FormDialog title={say("add")} does={say("add")} onSend={add} onClose={onClose}>
      <label>
        <span>{t("evals.question")}</span>
        <input name="question" required maxLength={2_000} />
      </label>
      <label>
        <span>{t("files.name")}</span>
        <input name="file" list="filenames" />
        <datalist id="filenames">
          {files.value?.map((file) => (
            <option key={file.id} value={file.filename} />
          ))}
        </datalist>
      </label>
      <label>
        <span>{say("passage")}</span>
        <textarea name="passage" rows={3} maxLength={4_000} />
      </label>
      <label>
        <span>{say("facts")}</span>
        <textarea name="facts" rows={2} />
      </label>
    </FormDialog>
  );
}
