// Searches over settings of an evaluation: create them, follow them, and read the results of their trials.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { count, dollars, duration, moment } from "../format";
import { Chart, type Line } from "../parts/Chart";
import { soft, Table } from "../parts/Table";
import { Confirm, Dialog, Trouble, useWatched, useWork } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link } from "../route";
import type { EvalPlan, EvalRun, EvalSearch, Trial } from "../types";
import { t } from "../words/words";
import { readMapping } from "./evalFile";
import { isWorking, stateOf } from "./searchState";

const MAX_LINES = 4;
const MAX_SEARCHES = 100;

/** The searches of an evaluation. Renders nothing if there are none. */
export function Searches({ evalId }: { evalId: string }) {
  const path = `/api/evals/${part(evalId)}/searches`;
  const found = useWatched(
    () => rows<EvalSearch>(`${path}?limit=${MAX_SEARCHES}`),
    path,
    (listed) => listed.some(isWorking),
  );
  return (
    <>
      <Trouble error={found.error} retry={found.retry} />
      {found.value && found.value.length > 0 && (
        <>
          <h2>{t("searches.all")}</h2>
          <Table
            label={t("searches.all")}
            id="evalsearches"
            rows={found.value}
            keyOf={(search) => search.id}
            columns={[
              {
                head: t("runs.began"),
                cell: (search) => (
                  <a href={link("run", "evals", evalId, "searches", search.id)}>
                    {moment(search.created_at)}
                  </a>
                ),
              },
              { head: t("name"), cell: (search) => search.name },
              {
                head: t("files.state"),
                class: (search) => (search.status === "failed" ? "bad" : "soft"),
                cell: (search) => search.error?.message ?? stateOf(search),
              },
              { head: t("searches.objective"), class: soft, cell: (search) => String(search.spec.objective) },
              { head: t("evals.items"), class: soft, cell: (search) => count(search.items) },
            ]}
          />
        </>
      )}
    </>
  );
}

/** One search: its status, the scores of its trials, and the trials that can be deployed. */
export function EvalSearchPage({ evalId, id }: { evalId: string; id: string }) {
  const path = `/api/evals/${part(evalId)}/searches/${part(id)}`;
  const found = useWatched(() => json<EvalSearch>(path), path, isWorking);
  const [busy, error, work] = useWork();
  const [applied, setApplied] = useState<Record<string, number> | null>(null);
  const search = found.value;
  useTrail(
    { label: t("searches.evaluation"), address: link("run", "evals", evalId) },
    { label: search ? moment(search.created_at) : t("searches.one") },
  );
  if (!search) return <Trouble error={found.error} retry={found.retry} />;
  const ended = search.trials.filter((trial) => !isWorking(trial)).length;
  const about = [stateOf(search), moment(search.created_at), String(search.spec.objective)];
  return (
    <>
      <div class="actions spread">
        <h1>{search.name || t("searches.one")}</h1>
        {isWorking(search) && (
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
        )}
      </div>
      <p class="soft" id="searchstate" aria-live="polite">
        {about.join(" · ")}
      </p>
      {isWorking(search) && (
        <p>
          <progress
            max={Math.max(1, search.trials.length)}
            value={ended}
            aria-label={t("searches.progress")}
          />{" "}
          {count(ended)} / {count(search.trials.length)}
        </p>
      )}
      <Trouble error={error || found.error} />
      {search.error && <p class="bad">{search.error.message}</p>}
      {applied && (
        <p class="good" id="applied">
          {Object.entries(applied)
            .map(([app, version]) => t("searches.applied", { app, version }))
            .join(" ")}
        </p>
      )}
      <TrialChart trials={search.trials} />
      <TrialTable
        search={search}
        busy={busy}
        onApply={(trial) =>
          work(async () => {
            setApplied(null);
            const done = await json<{ versions: Record<string, number> }>(`${path}/apply`, {
              json: { trial: trial.id },
            });
            setApplied(done.versions);
          })
        }
      />
    </>
  );
}

/** Returns the settings that differ between trials, in the order in which they appear. */
function namesOf(trials: Trial[]): string[] {
  return [...new Set(trials.flatMap((trial) => Object.keys(trial.settings)))];
}

function shown(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Returns lines of scores over the numeric setting with the most values, one line per combination of the other
 * settings. If no setting is numeric, the x axis is the rank.
 */
export function linesOf(trials: Trial[]): { lines: Line[]; xName: string } {
  const scored = trials.filter((trial) => trial.score !== null);
  const [numeric] = namesOf(scored)
    .filter((name) => scored.every((trial) => typeof trial.settings[name] === "number"))
    .map((name) => ({ name, values: new Set(scored.map((trial) => trial.settings[name])).size }))
    .filter((each) => each.values > 1)
    .sort((one, other) => other.values - one.values);
  if (!numeric) {
    const points = scored.map((trial, rank) => ({ x: rank + 1, y: trial.score ?? 0 }));
    return { lines: [{ name: t("evals.score"), points }], xName: t("searches.rank") };
  }
  const lines = new Map<string, Line["points"]>();
  for (const trial of scored) {
    const others = Object.entries(trial.settings).filter(([name]) => name !== numeric.name);
    const name = others.map(([, value]) => shown(value)).join(" · ") || t("evals.score");
    const points = lines.get(name) ?? [];
    lines.set(name, points);
    points.push({ x: Number(trial.settings[numeric.name]), y: trial.score ?? 0 });
  }
  const drawn = [...lines].slice(0, MAX_LINES).map(([name, points]) => ({
    name,
    points: points.sort((one, other) => one.x - other.x),
  }));
  return { lines: drawn, xName: numeric.name };
}

function TrialChart({ trials }: { trials: Trial[] }) {
  const { lines, xName } = linesOf(trials);
  const points = lines.reduce((sum, line) => sum + line.points.length, 0);
  return points > 1 ? <Chart label={t("searches.scores")} lines={lines} xName={xName} /> : null;
}

function TrialTable(props: { search: EvalSearch; busy: boolean; onApply: (trial: Trial) => void }) {
  const { search, busy, onApply } = props;
  const [chosen, setChosen] = useState<Trial | null>(null);
  return (
    <>
      <Table
        label={t("searches.trials")}
        id="trials"
        rows={search.trials}
        keyOf={(trial) => trial.id}
        columns={[
          {
            head: t("evals.score"),
            cell: (trial) => (
              <>
                <a href={link("run", "evals", search.eval_id, trial.id)}>
                  {trial.score?.toFixed(3) ?? stateOf(trial)}
                </a>{" "}
                {trial.standard_error !== null && (
                  <span class="soft">± {trial.standard_error.toFixed(3)}</span>
                )}{" "}
                {trial.id === search.best && <span class="good">{t("calibrate.best")}</span>}
                {trial.error && <p class="bad">{trial.error.message}</p>}
              </>
            ),
          },
          ...namesOf(search.trials).map((name) => ({
            head: name,
            cell: (trial: Trial) => shown(trial.settings[name]),
          })),
          { head: t("files.state"), class: soft, cell: stateOf },
          {
            head: t("evals.passed"),
            cell: (trial) => `${count(trial.passed)} / ${count(trial.done)}`,
          },
          { head: t("searches.tokens"), class: soft, cell: (trial) => count(trial.tokens) },
          { head: t("usage.cost"), class: soft, cell: (trial) => (trial.cost ? dollars(trial.cost) : "") },
          { head: t("search.time"), class: soft, cell: (trial) => duration(1000 * trial.seconds) },
          {
            head: t("actions"),
            quiet: true,
            cell: (trial) =>
              trial.score !== null &&
              Object.keys(trial.settings).some((name) => name.startsWith("apps.")) && (
                <button type="button" disabled={busy} onClick={() => setChosen(trial)}>
                  {t("searches.apply")}
                </button>
              ),
          },
        ]}
      />
      {chosen && (
        <Confirm
          title={t("searches.applyNote")}
          does={t("searches.apply")}
          onClose={() => setChosen(null)}
          onYes={() => onApply(chosen)}
        />
      )}
    </>
  );
}

/** The form of a new search over the settings of a run. It shows the cost before the search starts. */
export function NewSearch(props: { before: EvalRun; criteria: string[]; onClose: () => void }) {
  const { before, criteria, onClose } = props;
  const path = `/api/evals/${part(before.eval_id)}/search`;
  const [plan, setPlan] = useState<EvalPlan | null>(null);
  const [busy, error, work] = useWork();
  const [random, setRandom] = useState(false);
  const start = (form: FormData) =>
    work(async () => {
      const wanted = {
        name: String(form.get("name")).trim(),
        data_source: { ...before.data_source, source: { type: "eval_run", id: before.id } },
        parameters: await readMapping(String(form.get("parameters"))),
        objective: form.get("objective"),
        ...(random ? { method: "random", trials: Number(form.get("trials")) } : {}),
      };
      if (!plan) {
        setPlan(await json<EvalPlan>(path, { json: { ...wanted, dry_run: true } }));
        return;
      }
      const begun = await json<EvalSearch>(path, { json: wanted });
      go(link("run", "evals", before.eval_id, "searches", begun.id));
    });
  const example = before.data_source.type === "retrieval" ? RETRIEVAL_EXAMPLE : EXAMPLE;
  return (
    <Dialog title={t("searches.new")} onClose={onClose}>
      <form
        class="fields"
        id="searchform"
        onInput={() => setPlan(null)}
        onSubmit={(event) => {
          event.preventDefault();
          start(new FormData(event.currentTarget));
        }}
      >
        <label>
          <span>{t("name")}</span>
          <input name="name" maxLength={100} />
        </label>
        <label>
          <span>{t("searches.parameters")}</span>
          <textarea name="parameters" class="code" rows={5} spellcheck={false} defaultValue={example} />
          <small class="soft">{t("searches.parametersNote")}</small>
        </label>
        <label>
          <span>{t("searches.objective")}</span>
          <select name="objective">
            <option value="score">{t("searches.score")}</option>
            <option value="pass_rate">{t("searches.passRate")}</option>
            {criteria.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>{t("searches.method")}</span>
          <select name="method" onChange={(event) => setRandom(event.currentTarget.value === "random")}>
            <option value="grid">{t("searches.grid")}</option>
            <option value="random">{t("searches.random")}</option>
          </select>
        </label>
        {random && (
          <label>
            <span>{t("searches.trials")}</span>
            <input name="trials" type="number" min={1} max={1_000} defaultValue="10" required />
          </label>
        )}
        <Trouble error={error} />
        <p id="searchplan" aria-live="polite">
          {plan && t("searches.plan", { trials: count(plan.trials), asked: count(plan.asked) })}
        </p>
        <div class="actions">
          <button type="submit" class="primary" disabled={busy}>
            {t(plan ? "searches.start" : "searches.check")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

const EXAMPLE = "sampling_params.temperature: [0, 0.5, 1]\n";
const RETRIEVAL_EXAMPLE = "search_params.ranker: [lexical, vector, hybrid]\n";
