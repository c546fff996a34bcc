// The weight of a store's vectors relative to its keywords, measured on questions with known answers.

import { useState } from "preact/hooks";
import { json, part } from "../api";
import { count } from "../format";
import { Chart } from "../parts/Chart";
import { readJsonLines } from "../parts/jsonLines";
import { Table } from "../parts/Table";
import { Trouble, useWork } from "../parts/ui";
import { go, link } from "../route";
import { useProgress } from "../run/progress";
import { refresh, status } from "../status";
import type { Store } from "../types";
import { t } from "../words/words";

const EXAMPLE = '{"question": "Who can reach the daemon?", "file": "security.md"}';

interface Score {
  weight: number;
  ndcg: number;
  recall: number;
  mrr: number;
}

interface Measured {
  questions: number;
  unanswered: number;
  scores: Score[];
  best: number;
  before: number | null;
}

/** `run`: the measurement to show, from the address. */
export function View({ store, run }: { store: Store; run: string }) {
  return (
    <>
      <h1>{t("calibrate.title")}</h1>
      <p class="soft">{t("calibrate.note")}</p>
      <p>{usedOf(store)}</p>
      {run ? <Measurement key={run} store={store} run={run} /> : <Start store={store} />}
    </>
  );
}

function usedOf(store: Store): string {
  return store.vector_weight === null
    ? t("calibrate.unmeasured")
    : t("calibrate.used", { weight: store.vector_weight });
}

function Start({ store }: { store: Store }) {
  const [asks, setAsks] = useState(false);
  const [busy, error, work] = useWork();
  const start = (form: FormData) =>
    work(async () => {
      const file = form.get("file");
      const text = file instanceof File && file.name ? await file.text() : String(form.get("questions"));
      const wanted = asks
        ? { generate: Number(form.get("generate")), model: String(form.get("model")) }
        : { questions: readJsonLines(text, (line) => t("calibrate.badLine", { line })) };
      const begun = await json<{ run: string }>(`/api/stores/${part(store.id)}/calibrate`, { json: wanted });
      go(link("library", "documents", store.name, "calibrate", begun.run));
    });
  return (
    <form
      class="fields"
      id="calibrateform"
      onSubmit={(event) => {
        event.preventDefault();
        start(new FormData(event.currentTarget));
      }}
    >
      <label>
        <span>{t("calibrate.from")}</span>
        <select name="from" onChange={(event) => setAsks(event.currentTarget.value === "model")}>
          <option value="own">{t("calibrate.own")}</option>
          <option value="model">{t("calibrate.generated")}</option>
        </select>
      </label>
      {asks ? (
        <>
          <label>
            <span>{t("calibrate.number")}</span>
            <input name="generate" type="number" min={1} max={500} defaultValue="50" required />
          </label>
          <label>
            <span>{t("kind.model")}</span>
            <select name="model" required>
              {(status.value?.models ?? [])
                .filter((model) => model.task === "chat")
                .map((model) => (
                  <option key={model.name}>{model.name}</option>
                ))}
            </select>
          </label>
        </>
      ) : (
        <>
          <label>
            <span>{t("calibrate.questions")}</span>
            <textarea name="questions" class="code" rows={6} spellcheck={false} placeholder={EXAMPLE} />
            <small class="soft">{t("calibrate.questionsNote")}</small>
          </label>
          <label>
            <span>{t("calibrate.file")}</span>
            <input name="file" id="questionfile" type="file" accept=".jsonl" />
          </label>
        </>
      )}
      <Trouble error={error} />
      <div class="actions">
        <button type="submit" class="primary" disabled={busy}>
          {t("calibrate.start")}
        </button>
      </div>
    </form>
  );
}

function Measurement({ store, run }: { store: Store; run: string }) {
  const { progress, ended, result, error, again } = useProgress<Measured>(run);
  const [busy, stopError, work] = useWork();
  return (
    <>
      {!ended && (
        <div class="actions" aria-live="polite">
          <progress
            aria-label={t("calibrate.title")}
            {...(progress?.total ? { max: progress.total, value: progress.done ?? 0 } : {})}
          />
          <span class="soft grow">{progress?.message ?? "…"}</span>
          <button
            type="button"
            disabled={busy}
            onClick={() => work(() => json(`/api/runs/${part(run)}/cancel`, { method: "POST" }))}
          >
            {t("stop")}
          </button>
        </div>
      )}
      <Trouble error={error || stopError} {...(error ? { retry: again } : {})} />
      {result && <Result store={store} found={result} />}
      <p>
        <a href={link("library", "documents", store.name, "calibrate")}>{t("calibrate.another")}</a>
      </p>
    </>
  );
}

function Result({ store, found }: { store: Store; found: Measured }) {
  const [busy, error, work] = useWork();
  const isUsed = store.vector_weight === found.best;
  const lines = (["ndcg", "recall", "mrr"] as const).map((name) => ({
    name: t(`calibrate.${name}`),
    points: found.scores.map((score) => ({ x: score.weight, y: score[name] })),
  }));
  return (
    <>
      <p id="calibrated">
        {t("calibrate.found", {
          weight: found.best,
          questions: count(found.questions),
          unanswered: count(found.unanswered),
        })}
      </p>
      <div class="actions">
        {isUsed ? (
          <span class="good">{t("calibrate.isUsed")}</span>
        ) : (
          <button
            type="button"
            class="primary"
            disabled={busy}
            onClick={() =>
              work(async () => {
                await json(`/api/stores/${part(store.id)}`, {
                  method: "PATCH",
                  json: { vector_weight: found.best },
                });
                await refresh();
              })
            }
          >
            {t("calibrate.apply", { weight: found.best })}
          </button>
        )}
      </div>
      <Trouble error={error} />
      <Chart label={t("calibrate.title")} lines={lines} xName={t("calibrate.weights")} />
      <Table
        label={t("calibrate.title")}
        id="weights"
        rows={found.scores}
        keyOf={(score) => String(score.weight)}
        columns={[
          {
            head: t("calibrate.weight"),
            cell: (score) => (
              <>
                {score.weight.toFixed(1)}{" "}
                {score.weight === found.best && <span class="good">{t("calibrate.best")}</span>}
              </>
            ),
          },
          ...(["ndcg", "recall", "mrr"] as const).map((name) => ({
            head: t(`calibrate.${name}`),
            cell: (score: Score) => score[name].toFixed(4),
          })),
        ]}
      />
    </>
  );
}
