// A run of an evaluation: its status and the result of each item.

import { useState } from "preact/hooks";
import { json, type ListPage, part } from "../api";
import { count, dollars, duration, moment } from "../format";
import { soft, Table } from "../parts/Table";
import {
  Confirm,
  Dialog,
  Empty,
  pretty,
  Trouble,
  useLoaded,
  usePages,
  useWatched,
  useWork,
} from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import type { EvalRun, OutputItem } from "../types";
import { t } from "../words/words";

/** Number of items in a request. */
export const PAGE_SIZE = 100;
const OUTCOMES = ["pass", "fail", "error"] as const;
type Outcome = (typeof OUTCOMES)[number];

type Result = {
  name: string;
  score: number;
  passed: boolean;
  error?: { message: string };
  sample?: { label?: string };
};

type Sample = {
  error: { message: string } | null;
  input?: { role: string; content: unknown }[];
  output?: { role: string; content: unknown }[];
};

export interface Output extends OutputItem {
  results: Result[];
  sample: Sample;
}

export function isWorking(run: EvalRun): boolean {
  return run.status === "queued" || run.status === "in_progress";
}

const STATES = {
  queued: "runs.queued",
  in_progress: "runs.running",
  completed: "runs.completed",
  canceled: "runs.cancelled",
  failed: "runs.failed",
} as const;

export function stateOf(run: EvalRun): string {
  return t(STATES[run.status]);
}

/** Formats a score with its standard error. Smaller differences between runs are not significant. */
export function scoreOf(run: EvalRun): string {
  if (run.score === null) return "";
  const error = run.standard_error === null ? "" : ` ± ${run.standard_error.toFixed(3)}`;
  return `${run.score.toFixed(3)}${error}`;
}

export function RunProgress({ run }: { run: EvalRun }) {
  return (
    <>
      <progress
        max={Math.max(1, run.items)}
        value={run.result_counts.total}
        aria-label={t("evals.progress")}
      />{" "}
      {count(run.result_counts.total)} / {count(run.items)}
    </>
  );
}

/** One run: its status and the results of its items. */
export function EvalRunPage({ evalId, id }: { evalId: string; id: string }) {
  const path = `/v1/evals/${part(evalId)}/runs/${part(id)}`;
  const found = useWatched(() => json<EvalRun>(path), path, isWorking);
  const [removing, setRemoving] = useState(false);
  const [busy, error, work] = useWork();
  const run = found.value;
  useTrail(
    run?.search_id
      ? { label: t("searches.one"), address: link("run", "evals", evalId, "searches", run.search_id) }
      : { label: run?.name || evalId, address: link("run", "evals", evalId) },
    { label: run ? moment(run.created_at) : id },
  );
  if (!run) return <Trouble error={found.error} retry={found.retry} />;
  const item = route.value.rest[3];
  const about = [
    stateOf(run),
    moment(run.created_at),
    duration(1000 * run.seconds),
    run.cost ? dollars(run.cost) : "",
  ];
  return (
    <>
      <div class="actions spread">
        <h1>
          {run.name} · {run.model || t("evals.nobody")}
        </h1>
        <span class="actions">
          {isWorking(run) ? (
            <button
              type="button"
              disabled={busy}
              onClick={() =>
                work(async () => {
                  await json(`${path}/cancel`, { method: "POST" });
                  found.reload();
                })
              }
            >
              {t("stop")}
            </button>
          ) : (
            !run.search_id && (
              <button type="button" class="danger" disabled={busy} onClick={() => setRemoving(true)}>
                {t("delete")}
              </button>
            )
          )}
        </span>
      </div>
      <p class="soft" id="evalstate" aria-live="polite">
        {about.filter(Boolean).join(" · ")}
      </p>
      {isWorking(run) && (
        <p>
          <RunProgress run={run} />
        </p>
      )}
      <Trouble error={error || found.error} />
      {run.error && <p class="bad">{run.error.message}</p>}
      {run.score !== null && <CriteriaTable run={run} />}
      <Items run={run} path={path} />
      {item && <ItemDialog key={item} path={path} id={item} back={link("run", "evals", evalId, id)} />}
      {removing && (
        <Confirm
          title={t("evals.deleteRun")}
          does={t("delete")}
          onClose={() => setRemoving(false)}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              go(link("run", "evals", evalId));
            })
          }
        />
      )}
    </>
  );
}

function CriteriaTable({ run }: { run: EvalRun }) {
  const whole = {
    testing_criteria: t("evals.all"),
    passed: run.result_counts.passed,
    failed: run.result_counts.failed + run.result_counts.errored,
    shown: scoreOf(run),
  };
  const each = run.per_testing_criteria_results.map((found) => ({
    ...found,
    shown: found.mean?.toFixed(3) ?? "",
  }));
  return (
    <Table
      label={t("evals.criteria")}
      id="evalcriteria"
      rows={[whole, ...each]}
      keyOf={(row) => row.testing_criteria}
      columns={[
        { head: t("evals.criteria"), cell: (row) => row.testing_criteria },
        { head: t("evals.score"), cell: (row) => row.shown },
        { head: t("evals.passed"), cell: (row) => count(row.passed) },
        { head: t("evals.failed"), cell: (row) => count(row.failed) },
      ]}
    />
  );
}

/** The result of a criterion for an item. */
export function Mark({ result }: { result: Result | undefined }) {
  if (!result) return null;
  const word = result.error ? "error" : result.passed ? "pass" : "fail";
  return (
    <span class={result.passed ? "good" : "bad"}>
      {t(`evals.${word}`)} <span class="soft">{result.sample?.label ?? result.score.toFixed(2)}</span>
    </span>
  );
}

/** Returns why an item has an error, or an empty string. */
export function reasonOf(output: Output): string {
  return output.sample.error?.message ?? output.results.find((each) => each.error)?.error?.message ?? "";
}

export function answerOf(output: Output): string {
  return (output.sample.output ?? []).map((each) => pretty(each.content)).join("\n");
}

function Items({ run, path }: { run: EvalRun; path: string }) {
  const [outcome, setOutcome] = useState<Outcome | "">("");
  const filter = outcome ? `&status=${outcome}` : "";
  const found = usePages(
    (after) => json<ListPage<Output>>(`${path}/output_items?limit=${PAGE_SIZE}${filter}${after}`),
    `${path} ${filter}`,
    String(run.result_counts.total),
  );
  const names = run.per_testing_criteria_results.map((each) => each.testing_criteria);
  return (
    <>
      <div class="actions spread">
        <h2>{t("evals.itemsOf")}</h2>
        <select
          id="outcome"
          aria-label={t("evals.outcome")}
          value={outcome}
          onChange={(event) => setOutcome(event.currentTarget.value as Outcome | "")}
        >
          <option value="">{t("evals.every")}</option>
          {OUTCOMES.map((each) => (
            <option key={each} value={each}>
              {t(`evals.${each}`)} ({count(run.result_counts[COUNTED[each]])})
            </option>
          ))}
        </select>
      </div>
      <Trouble error={found.error} retry={found.retry} />
      {found.value && !found.value.length && (
        <Empty title={outcome ? t("evals.noneSuch") : t("evals.nothingDone")} />
      )}
      {found.value && found.value.length > 0 && (
        <Table
          key={outcome}
          label={t("evals.itemsOf")}
          id="evaloutputs"
          rows={found.value}
          next={found.next}
          keyOf={(output) => output.id}
          columns={[
            {
              head: "#",
              cell: (output) => (
                <a
                  href={link("run", "evals", run.eval_id, run.id, output.id)}
                  aria-label={t("evals.item", { number: output.datasource_item_id })}
                >
                  {output.datasource_item_id}
                </a>
              ),
            },
            { head: t("evals.itemOne"), class: soft, cell: (output) => brief(output.datasource_item) },
            {
              head: t("evals.answer"),
              class: (output) => (output.status === "error" ? "bad" : ""),
              cell: (output) => brief(reasonOf(output) || answerOf(output)),
            },
            {
              head: t("evals.outcome"),
              class: (output) => (output.status === "pass" ? "good" : "bad"),
              cell: (output) => t(`evals.${output.status}`),
            },
            { head: t("evals.score"), cell: (output) => output.score.toFixed(3) },
            ...names.map((name) => ({
              head: name,
              cell: (output: Output) => <Mark result={output.results.find((each) => each.name === name)} />,
            })),
            {
              head: t("search.time"),
              class: soft,
              cell: (output) => duration(1000 * output.seconds),
            },
          ]}
        />
      )}
    </>
  );
}

const COUNTED = { pass: "passed", fail: "failed", error: "errored" } as const;
const MAX_BRIEF_CHARS = 200;

/** Returns the beginning of a text, or the values of an item. */
export function brief(value: string | Record<string, unknown>): string {
  const text =
    typeof value === "string"
      ? value
      : Object.entries(value)
          .map(([name, each]) => `${name}: ${typeof each === "string" ? each : JSON.stringify(each)}`)
          .join(" · ");
  return text.length > MAX_BRIEF_CHARS ? `${text.slice(0, MAX_BRIEF_CHARS)} …` : text;
}

/** All details of one item. */
function ItemDialog({ path, id, back }: { path: string; id: string; back: string }) {
  const found = useLoaded(() => json<Output>(`${path}/output_items/${part(id)}`), id);
  const output = found.value;
  return (
    <Dialog
      title={output ? t("evals.item", { number: output.datasource_item_id }) : id}
      onClose={() => go(back)}
      side
    >
      <Trouble error={found.error} retry={found.retry} />
      {output && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard
        <section class="sections" tabIndex={0} aria-label={t("evals.itemOne")}>
          {output.sample.error && <p class="bad">{output.sample.error.message}</p>}
          <ul>
            {output.results.map((result) => (
              <li key={result.name}>
                {result.name}: <Mark result={result} />
                {result.error && <p class="bad">{result.error.message}</p>}
              </li>
            ))}
          </ul>
          <h3>{t("evals.itemOne")}</h3>
          <pre>{pretty(output.datasource_item)}</pre>
          {output.sample.input && output.sample.input.length > 0 && (
            <>
              <h3>{t("evals.question")}</h3>
              {output.sample.input.map((message) => (
                <pre key={`${message.role} ${pretty(message.content)}`}>{pretty(message.content)}</pre>
              ))}
            </>
          )}
          <h3>{t("evals.answer")}</h3>
          <pre id="evalanswer">{answerOf(output)}</pre>
        </section>
      )}
    </Dialog>
  );
}
