// Evaluations and their runs. EvalRun.tsx shows one run with its items.

import { useState } from "preact/hooks";
import { everyRow, json, type ListPage, part } from "../api";
import { uploadFile } from "../documents/upload";
import { count, dollars, duration, moment } from "../format";
import { Chart, type Line } from "../parts/Chart";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import {
  Confirm,
  Empty,
  FormDialog,
  Listing,
  pretty,
  Trouble,
  useLoaded,
  useWatched,
  useWork,
} from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import { status, targets } from "../status";
import type { EvalObject, EvalRun } from "../types";
import { t } from "../words/words";
import { CompareDialog, EvalComparison } from "./EvalCompare";
import { EvalRunPage, isWorking, RunProgress, scoreOf, stateOf } from "./EvalRun";
import { EvalSearchPage, NewSearch, Searches } from "./EvalSearch";
import { readEvalFile } from "./evalFile";

const MAX_EVALS = 1_000;
const MAX_RUNS = 500;
const MAX_LINES = 4;

export function View() {
  const [, id, run, search, other] = route.value.rest;
  if (id && run === "searches" && search) return <EvalSearchPage key={search} evalId={id} id={search} />;
  if (id && run === "compare" && search && other)
    return <EvalComparison key={`${search} ${other}`} evalId={id} first={search} second={other} />;
  if (id && run) return <EvalRunPage key={run} evalId={id} id={run} />;
  return id ? <EvalPage key={id} id={id} /> : <EvalList />;
}

function EvalList() {
  const found = useLoaded(
    () =>
      everyRow(MAX_EVALS, (after) => json<ListPage<EvalObject>>(`/v1/evals?limit=100&order=desc${after}`)),
    "evals",
  );
  const [making, setMaking] = useState(false);
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.evals")}</h1>
        {!found.denied && (
          <button type="button" class="primary" onClick={() => setMaking(true)}>
            {t("evals.new")}
          </button>
        )}
      </div>
      <Listing found={found} none={t("evals.none")} note={t("evals.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.evals")}
            id="evals"
            rows={listed}
            keyOf={(test) => test.id}
            text={(test) => `${test.name} ${test.id}`}
            columns={[
              {
                head: t("name"),
                cell: (test) => <a href={link("run", "evals", test.id)}>{test.name || test.id}</a>,
              },
              { head: t("evals.criteria"), class: soft, cell: criteriaOf },
              { head: t("runs.began"), class: soft, cell: (test) => moment(test.created_at) },
            ]}
          />
        )}
      </Listing>
      {making && <NewEval onClose={() => setMaking(false)} />}
    </>
  );
}

function criteriaOf(test: EvalObject): string {
  return test.testing_criteria.map((each) => String(each.name)).join(", ");
}

/** Starts a run on the items of a file, which is uploaded first, or on the given items. */
export async function begin(
  evalId: string,
  source: Record<string, unknown>,
  items: File | unknown,
): Promise<EvalRun> {
  const path = `/v1/evals/${part(evalId)}/runs`;
  if (!(items instanceof File)) {
    return json<EvalRun>(path, { json: { data_source: { ...source, source: items } } });
  }
  const id = await uploadFile(items, items.name, "evals");
  try {
    return await json<EvalRun>(path, {
      json: { data_source: { ...source, source: { type: "file_id", id } } },
    });
  } finally {
    await json(`/v1/files/${part(id)}`, { method: "DELETE" });
  }
}

/** Returns the file chosen in a field, or an empty file. */
function fileOf(form: FormData, name: string): File | null {
  const file = form.get(name);
  return file instanceof File && file.name ? file : null;
}

/**
 * Returns a data source without items. `type` is optional, `messages` is short for a template, and `model` overrides
 * the model of the source if it is not empty.
 */
function sourceOf(given: Record<string, unknown>, model: string): Record<string, unknown> {
  const { messages, ...rest } = { ...given, ...(model && !("store" in given) ? { model } : {}) } as Record<
    string,
    unknown
  >;
  const kind = "store" in rest ? "retrieval" : "model" in rest || messages ? "completions" : "jsonl";
  return {
    type: kind,
    ...rest,
    ...(messages ? { input_messages: { type: "template", template: messages } } : {}),
  };
}

const EXAMPLE = `name: capitals
data:
  - {country: France, capital: Paris}
  - {country: Peru, capital: Lima}
criteria:
  - {type: string_check, name: named, operation: ilike, input: "{{sample.output_text}}", reference: "{{item.capital}}"}
source:
  messages:
    - {role: user, content: "The capital of {{item.country}}?"}
`;

/** The form that creates an evaluation from a file as the command line accepts it, and starts its first run. */
function NewEval({ onClose }: { onClose: () => void }) {
  const make = async (form: FormData) => {
    const chosen = fileOf(form, "file");
    const given = await readEvalFile(chosen ? await chosen.text() : String(form.get("text")));
    const items = fileOf(form, "items") ?? given.items;
    if (!items) throw new Error(t("evals.noItems"));
    const test = await json<EvalObject>("/v1/evals", { json: given.evaluation });
    const run = await begin(test.id, sourceOf(given.source, String(form.get("model"))), items).catch(
      async (error) => {
        await json(`/v1/evals/${part(test.id)}`, { method: "DELETE" });
        throw error;
      },
    );
    go(link("run", "evals", test.id, run.id));
  };
  return (
    <FormDialog title={t("evals.new")} does={t("evals.start")} onSend={make} onClose={onClose}>
      <label>
        <span>{t("evals.text")}</span>
        <textarea name="text" class="code" rows={12} spellcheck={false} defaultValue={EXAMPLE} />
        <small class="soft">{t("evals.textNote")}</small>
      </label>
      <label>
        <span>{t("evals.file")}</span>
        <input name="file" id="evalfile" type="file" accept=".yaml,.yml,.json" />
      </label>
      <label>
        <span>{t("evals.items")}</span>
        <input name="items" id="evalitems" type="file" accept=".jsonl" />
        <small class="soft">{t("evals.itemsNote")}</small>
      </label>
      <Asked chosen="" none={t("evals.asFile")} />
    </FormDialog>
  );
}

/** A field to choose a model or an app. `none` is the label of the empty choice. */
export function Asked({ chosen, none }: { chosen: string; none?: string }) {
  const names = targets()
    .filter((each) => each.does === "chat")
    .map((each) => each.name);
  const known = !chosen || names.includes(chosen) ? names : [chosen, ...names];
  return (
    <label>
      <span>{t("evals.asked")}</span>
      <select name="model">
        {none && <option value="">{none}</option>}
        {known.map((name) => (
          <option key={name} selected={name === chosen}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

function EvalPage({ id }: { id: string }) {
  const path = `/v1/evals/${part(id)}`;
  const test = useLoaded(() => json<EvalObject>(path), path);
  const runs = useWatched(
    async () => {
      const found = await everyRow(MAX_RUNS, (after) =>
        json<ListPage<EvalRun>>(`${path}/runs?limit=100&order=desc${after}`),
      );
      return found.filter((run) => !run.search_id);
    },
    `${path}/runs`,
    (found) => found.some(isWorking),
  );
  const [opened, setOpened] = useState<"" | "compare" | "rename" | "run" | "search" | "remove">("");
  const [busy, error, work] = useWork();
  useTrail({ label: test.value?.name || id });
  if (!test.value) return <Trouble error={test.error} retry={test.retry} />;
  const { name, testing_criteria: criteria } = test.value;
  const finished = (runs.value ?? []).filter((run) => run.status === "completed");
  return (
    <>
      <div class="actions spread">
        <h1>{name || id}</h1>
        <span class="actions">
          <button type="button" class="primary" disabled={!runs.value} onClick={() => setOpened("run")}>
            {t("evals.run")}
          </button>
          {finished.length > 1 && (
            <button type="button" onClick={() => setOpened("compare")}>
              {t("compare")}
            </button>
          )}
          <Menu name={name || id}>
            {runs.value?.[0] && (
              <button type="button" onClick={() => setOpened("search")}>
                {t("searches.new")}
              </button>
            )}
            <button type="button" onClick={() => setOpened("rename")}>
              {t("rename")}
            </button>
            <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
              {t("delete")}
            </button>
          </Menu>
        </span>
      </div>
      <Trouble error={error} />
      <details class="aside">
        <summary>
          {t("evals.criteria")}: {criteriaOf(test.value)}
        </summary>
        <pre>{pretty(criteria)}</pre>
      </details>
      <Trouble error={runs.error} retry={runs.retry} />
      {runs.value && !runs.value.length && (
        <Empty title={t("evals.noRuns")}>
          <p class="soft">{t("evals.noRunsNote")}</p>
        </Empty>
      )}
      {runs.value && runs.value.length > 0 && (
        <>
          <Scores runs={runs.value} />
          <RunTable runs={runs.value} names={criteria.map((each) => String(each.name))} />
        </>
      )}
      <Searches evalId={id} />
      {opened === "search" && runs.value?.[0] && (
        <NewSearch
          before={runs.value[0]}
          criteria={criteria.map((each) => String(each.name))}
          onClose={() => setOpened("")}
        />
      )}
      {opened === "compare" && <CompareDialog runs={finished} onClose={() => setOpened("")} />}
      {opened === "run" && (
        <NewRun evalId={id} before={runs.value?.[0] ?? null} onClose={() => setOpened("")} />
      )}
      {opened === "rename" && (
        <FormDialog
          title={t("rename")}
          does={t("save")}
          onSend={async (form) => {
            await json(path, { json: { name: form.get("name") } });
            test.reload();
          }}
          onClose={() => setOpened("")}
        >
          <label>
            <span>{t("name")}</span>
            <input name="name" required defaultValue={name} />
          </label>
        </FormDialog>
      )}
      {opened === "remove" && (
        <Confirm
          title={t("evals.delete", { name: name || id })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              go(link("run", "evals"));
            })
          }
        />
      )}
    </>
  );
}

/** The scores of the finished runs in order, with a line for each of the targets that were evaluated most often. */
function Scores({ runs }: { runs: EvalRun[] }) {
  const ended = runs.filter((run) => run.status === "completed" && run.score !== null).reverse();
  const lines = new Map<string, Line["points"]>();
  ended.forEach((run, number) => {
    const points = lines.get(run.model) ?? [];
    lines.set(run.model, points);
    points.push({ x: number + 1, y: run.score ?? 0 });
  });
  const drawn = [...lines]
    .map(([name, points]) => ({ name: name || t("evals.nobody"), points }))
    .sort((one, other) => other.points.length - one.points.length)
    .slice(0, MAX_LINES);
  return ended.length > 0 ? <Chart label={t("evals.scores")} lines={drawn} xName={t("evals.runs")} /> : null;
}

function RunTable({ runs, names }: { runs: EvalRun[]; names: string[] }) {
  return (
    <Table
      label={t("evals.runs")}
      id="evalruns"
      rows={runs}
      keyOf={(run) => run.id}
      columns={[
        {
          head: t("runs.began"),
          cell: (run) => <a href={link("run", "evals", run.eval_id, run.id)}>{moment(run.created_at)}</a>,
        },
        { head: t("evals.asked"), cell: (run) => run.model || t("evals.nobody") },
        {
          head: t("files.state"),
          class: (run) => (run.status === "failed" ? "bad" : "soft"),
          cell: (run) => (isWorking(run) ? <RunProgress run={run} /> : (run.error?.message ?? stateOf(run))),
        },
        { head: t("evals.score"), cell: scoreOf },
        {
          head: t("evals.passed"),
          cell: (run) => `${count(run.result_counts.passed)} / ${count(run.items)}`,
        },
        ...names.map((name) => ({
          head: name,
          class: soft,
          cell: (run: EvalRun) => {
            const found = run.per_testing_criteria_results.find((each) => each.testing_criteria === name);
            return found?.mean?.toFixed(3) ?? "";
          },
        })),
        { head: t("search.time"), class: soft, cell: (run) => duration(1000 * run.seconds) },
        { head: t("usage.cost"), class: soft, cell: (run) => (run.cost ? dollars(run.cost) : "") },
      ]}
    />
  );
}

/**
 * The form of another run. It repeats the previous run for the chosen target; the first run needs a question and items.
 */
function NewRun(props: { evalId: string; before: EvalRun | null; onClose: () => void }) {
  const { before, evalId } = props;
  const [fromFile, setFromFile] = useState(!before);
  const kind = before?.data_source.type ?? "completions";
  const start = async (form: FormData) => {
    const file = fileOf(form, "items");
    const items = fromFile ? file : { type: "eval_run", id: before?.id };
    const asked = form.get(kind === "retrieval" ? "store" : "model");
    const messages = [{ role: "user", content: String(form.get("question")) }];
    const source = before
      ? { ...before.data_source, ...(asked ? { [kind === "retrieval" ? "store" : "model"]: asked } : {}) }
      : sourceOf({ messages }, String(asked));
    const run = await begin(evalId, source, items);
    go(link("run", "evals", evalId, run.id));
  };
  return (
    <FormDialog title={t("evals.run")} does={t("evals.start")} onSend={start} onClose={props.onClose}>
      {kind === "retrieval" && (
        <label>
          <span>{t("evals.store")}</span>
          <select name="store">
            {(status.value?.stores ?? []).map((store) => (
              <option key={store.id} selected={store.name === before?.data_source.store}>
                {store.name}
              </option>
            ))}
          </select>
        </label>
      )}
      {(kind === "completions" || kind === "responses") && <Asked chosen={before?.model ?? ""} />}
      {before ? (
        <>
          <label>
            <span>{t("evals.items")}</span>
            <select name="from" onChange={(event) => setFromFile(event.currentTarget.value === "file")}>
              <option value="run">{t("evals.sameItems", { count: count(before.items) })}</option>
              <option value="file">{t("evals.itemsOfFile")}</option>
            </select>
          </label>
          {before.data_source.input_messages !== undefined && (
            <details class="aside">
              <summary>{t("evals.question")}</summary>
              <pre>{pretty(before.data_source.input_messages)}</pre>
            </details>
          )}
        </>
      ) : (
        <label>
          <span>{t("evals.question")}</span>
          <textarea name="question" rows={3} required />
          <small class="soft">{t("evals.questionNote")}</small>
        </label>
      )}
      {fromFile && (
        <label>
          <span>{t("evals.itemsOfFile")}</span>
          <input name="items" id="evalitems" type="file" accept=".jsonl" required />
          <small class="soft">{t("evals.itemsNote")}</small>
        </label>
      )}
    </FormDialog>
  );
}
