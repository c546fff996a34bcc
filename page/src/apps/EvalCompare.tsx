// Two runs of an evaluation side by side: which items turned right or wrong, and both answers to each item.

import { useState } from "preact/hooks";
import { everyRow, json, type ListPage, part } from "../api";
import { count, moment } from "../format";
import { soft, Table } from "../parts/Table";
import { Dialog, Empty, FormDialog, pretty, Skeleton, Trouble, useLoaded } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import type { EvalRun } from "../types";
import { t } from "../words/words";
import { answerOf, brief, Mark, type Output, PAGE_SIZE, reasonOf, scoreOf } from "./EvalRun";
import { type Change, type Pair, pairsOf } from "./evalPairs";

const MAX_ITEMS = 10_000;
const CHANGES = ["wrong", "right", "same"] as const;

function labelOf(run: EvalRun): string {
  return `${run.model || t("evals.nobody")} · ${moment(run.created_at)}`;
}

/** The form that chooses two finished runs. `runs` are newest first. */
export function CompareDialog({ runs, onClose }: { runs: EvalRun[]; onClose: () => void }) {
  const choice = (name: "first" | "second", chosen: EvalRun | undefined) => (
    <label>
      <span>{t(`compare.${name}`)}</span>
      <select name={name} defaultValue={chosen?.id ?? ""}>
        {runs.map((run) => (
          <option key={run.id} value={run.id}>
            {[labelOf(run), scoreOf(run)].filter(Boolean).join(" · ")}
          </option>
        ))}
      </select>
    </label>
  );
  return (
    <FormDialog
      title={t("compare")}
      does={t("compare")}
      onSend={async (form) => {
        const [first, second] = [String(form.get("first")), String(form.get("second"))];
        go(link("run", "evals", runs[0]?.eval_id ?? "", "compare", first, second));
      }}
      onClose={onClose}
    >
      {choice("first", runs[1])}
      {choice("second", runs[0])}
    </FormDialog>
  );
}

async function loadRun(evalId: string, id: string): Promise<{ run: EvalRun; outputs: Output[] }> {
  const path = `/v1/evals/${part(evalId)}/runs/${part(id)}`;
  const [run, outputs] = await Promise.all([
    json<EvalRun>(path),
    everyRow(MAX_ITEMS, (after) => json<ListPage<Output>>(`${path}/output_items?limit=${PAGE_SIZE}${after}`)),
  ]);
  return { run, outputs };
}

export function EvalComparison(props: { evalId: string; first: string; second: string }) {
  const { evalId, first, second } = props;
  const found = useLoaded(
    () => Promise.all([loadRun(evalId, first), loadRun(evalId, second)]),
    `${first} ${second}`,
  );
  const [shown, setShown] = useState<Change | "">("");
  const [one, other] = found.value ?? [];
  useTrail(
    { label: one?.run.name || evalId, address: link("run", "evals", evalId) },
    { label: t("compare") },
  );
  if (!one || !other) return found.error ? <Trouble error={found.error} retry={found.retry} /> : <Skeleton />;
  const pairs = pairsOf(one.outputs, other.outputs);
  const counts = (change: Change) => pairs.filter((pair) => pair.change === change).length;
  const alone = one.outputs.length + other.outputs.length - 2 * pairs.length;
  const address = link("run", "evals", evalId, "compare", first, second);
  const item = route.value.rest[5];
  const opened = pairs.find((pair) => pair.first.id === item);
  return (
    <>
      <h1>{t("compare.title", { name: one.run.name })}</h1>
      <Table
        label={t("evals.scores")}
        id="comparedruns"
        rows={[one.run, other.run]}
        keyOf={(run) => run.id}
        columns={[
          {
            head: t("evals.runs"),
            cell: (run) => <a href={link("run", "evals", evalId, run.id)}>{labelOf(run)}</a>,
          },
          { head: t("evals.score"), cell: scoreOf },
          {
            head: t("evals.passed"),
            cell: (run) => `${count(run.result_counts.passed)} / ${count(run.items)}`,
          },
        ]}
      />
      <div class="actions spread">
        <h2>{t("evals.itemsOf")}</h2>
        <select
          id="change"
          aria-label={t("compare.change")}
          onChange={(event) => setShown(event.currentTarget.value as Change | "")}
        >
          <option value="">{t("evals.every")}</option>
          {CHANGES.map((change) => (
            <option key={change} value={change}>
              {t(`compare.${change}`)} ({count(counts(change))})
            </option>
          ))}
        </select>
      </div>
      {alone > 0 && <p class="soft">{t("compare.alone", { count: count(alone) })}</p>}
      {!pairs.length && <Empty title={t("compare.none")} />}
      {pairs.length > 0 && (
        <Table
          key={shown}
          label={t("evals.itemsOf")}
          id="compareditems"
          rows={pairs.filter((pair) => !shown || pair.change === shown)}
          keyOf={(pair) => pair.first.id}
          columns={[
            {
              head: "#",
              cell: ({ first: output }) => (
                <a
                  href={`${address}/${part(output.id)}`}
                  aria-label={t("evals.item", { number: output.datasource_item_id })}
                >
                  {output.datasource_item_id}
                </a>
              ),
            },
            {
              head: t("evals.itemOne"),
              class: soft,
              cell: ({ first: output }) => brief(output.datasource_item),
            },
            { head: t("compare.first"), cell: ({ first: output }) => <Brief output={output} /> },
            { head: t("compare.second"), cell: ({ second: output }) => <Brief output={output} /> },
            {
              head: t("compare.change"),
              class: ({ change }) => (change === "right" ? "good" : change === "wrong" ? "bad" : "soft"),
              cell: ({ change }) => t(`compare.${change}`),
            },
          ]}
        />
      )}
      {opened && <PairDialog pair={opened} runs={[one.run, other.run]} onClose={() => go(address)} />}
    </>
  );
}

function Brief({ output }: { output: Output }) {
  return (
    <>
      <span class={output.status === "pass" ? "good" : "bad"}>{t(`evals.${output.status}`)}</span>{" "}
      {brief(reasonOf(output) || answerOf(output))}
    </>
  );
}

/** An item with the answers and results of both runs. */
function PairDialog(props: { pair: Pair<Output>; runs: EvalRun[]; onClose: () => void }) {
  const { pair, runs, onClose } = props;
  const item = pair.first.datasource_item;
  return (
    <Dialog title={t("evals.item", { number: pair.first.datasource_item_id })} onClose={onClose} side>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="sections" tabIndex={0} aria-label={t("evals.itemOne")}>
        <pre>{pretty(item)}</pre>
        <div class="pair">
          {[pair.first, pair.second].map((output, place) => (
            <section key={output.id}>
              <h3>{runs[place] && labelOf(runs[place])}</h3>
              <ul>
                {output.results.map((result) => (
                  <li key={result.name}>
                    {result.name}: <Mark result={result} />
                  </li>
                ))}
              </ul>
              {reasonOf(output) && <p class="bad">{reasonOf(output)}</p>}
              <pre class="answer">{answerOf(output)}</pre>
            </section>
          ))}
        </div>
      </section>
    </Dialog>
  );
}
