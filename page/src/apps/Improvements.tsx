// Improvements of an app: which part fails on a file of cases, and which measured change helps.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { count, dollars, duration, moment } from "../format";
import { FileDrop } from "../parts/FileDrop";
import { readJsonLines } from "../parts/jsonLines";
import { soft, Table } from "../parts/Table";
import { FormDialog, Listing, Trouble, useLoaded, useWatched } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link } from "../route";
import { ProgressCard } from "../run/ProgressCard";
import { status } from "../status";
import type { AppliedProposal, HeldBackFigures, ImprovementDescription, Proposal } from "../types";
import { t, textsOf } from "../words/words";
import { improvementTexts } from "./improvementTexts";
import { isWorking, stateOf } from "./searchState";

const MAX_IMPROVEMENTS = 100;
const DEFAULT_WEIGHT = 0.1;

const say = textsOf(improvementTexts);

/** The improvements of the app `name`, or the improvement `id`. */
export function View({ name, id }: { name: string; id: string }) {
  return id ? <ImprovementPage key={id} name={name} id={id} /> : <Improvements name={name} />;
}

function useImprovementTrail(name: string, label?: string): void {
  const list = { label: t("apps.improvements"), address: link("library", "apps", name, "improvements") };
  useTrail({ label: name, address: link("library", "apps", name) }, list, ...(label ? [{ label }] : []));
}

function partName(name: string): string {
  return say(name === "model" ? "modelPart" : (name as "prompt"));
}

function Improvements({ name }: { name: string }) {
  const path = `/api/improvements?app=${part(name)}&limit=${MAX_IMPROVEMENTS}`;
  const found = useWatched(
    () => rows<ImprovementDescription>(path),
    path,
    (listed) => listed.some(isWorking),
  );
  const [cases, setCases] = useState<File | null>(null);
  useImprovementTrail(name);
  return (
    <>
      <h1>{t("apps.improvements")}</h1>
      <p class="soft">{say("note")}</p>
      <FileDrop id="cases" note={say("drop")} chooses={say("choose")} accept=".jsonl" onFile={setCases} />
      <Listing found={found} none={say("none")} note={say("noneNote")}>
        {(listed) => (
          <Table
            label={t("apps.improvements")}
            id="improvements"
            rows={listed}
            keyOf={(improvement) => improvement.id}
            columns={[
              {
                head: t("runs.began"),
                cell: (improvement) => (
                  <a href={link("library", "apps", name, "improvements", improvement.id)}>
                    {moment(improvement.created_at)}
                  </a>
                ),
              },
              { head: t("apps.version"), class: soft, cell: (improvement) => `v${improvement.version}` },
              {
                head: t("files.state"),
                class: (improvement) => (improvement.error ? "bad" : "soft"),
                cell: (improvement) => improvement.error?.message ?? stateOf(improvement),
              },
              { head: say("part"), cell: (improvement) => improvement.part && partName(improvement.part) },
            ]}
          />
        )}
      </Listing>
      {cases && <NewImprovement app={name} cases={cases} onClose={() => setCases(null)} />}
    </>
  );
}

/** Parses a file of cases. A line contains a case, or an object with a case as its `item`. */
export function casesOf(text: string): unknown[] {
  return readJsonLines(text, (line) => say("badLine", { line })).map(
    (line) => (line as { item?: unknown } | null)?.item ?? line,
  );
}

function NewImprovement({ app, cases, onClose }: { app: string; cases: File; onClose: () => void }) {
  const start = async (form: FormData) => {
    const data = casesOf(await cases.text());
    const { id } = await json<ImprovementDescription>("/api/improvements", {
      json: { app, data, model: form.get("model") },
    });
    go(link("library", "apps", app, "improvements", id));
  };
  return (
    <FormDialog
      title={say("startOf", { file: cases.name })}
      does={say("start")}
      onSend={start}
      onClose={onClose}
    >
      <p class="soft">{say("startNote")}</p>
      <label>
        <span>{say("model")}</span>
        <select name="model">
          <option value="">{t("chunkers.nothing")}</option>
          {(status.value?.models ?? [])
            .filter((model) => model.task === "chat")
            .map((model) => (
              <option key={model.name}>{model.name}</option>
            ))}
        </select>
      </label>
    </FormDialog>
  );
}

function ImprovementPage({ name, id }: { name: string; id: string }) {
  const path = `/api/improvements/${part(id)}`;
  const found = useLoaded(() => json<ImprovementDescription>(path), path);
  const [chosen, setChosen] = useState<Proposal | null>(null);
  const improvement = found.value;
  useImprovementTrail(name, improvement ? moment(improvement.created_at) : id);
  if (!improvement) return <Trouble error={found.error} retry={found.retry} />;
  const { bad, diagnosed, held_back: heldBack, part: failingPart, proposals } = improvement;
  return (
    <>
      <h1>
        {improvement.app}@{improvement.version}
      </h1>
      <p class="soft" id="improvementstate" aria-live="polite">
        {stateOf(improvement)} · {moment(improvement.created_at)}
      </p>
      {isWorking(improvement) && (
        <ProgressCard
          run={improvement.run_id}
          label={t("apps.improvements")}
          done={t("runs.completed")}
          onEnd={found.reload}
        />
      )}
      {improvement.error && <p class="bad">{improvement.error.message}</p>}
      {bad !== null && diagnosed !== null && heldBack !== null && (
        <>
          <p id="improvementcases">
            {say("cases", {
              cases: count(improvement.cases),
              bad: count(bad),
              diagnosed: count(diagnosed),
              heldBack: count(heldBack),
            })}{" "}
            {failingPart ? say("fails", { part: partName(failingPart) }) : say("noPart")}
          </p>
          <h2>{say("diagnosis")}</h2>
          <Table
            label={say("diagnosis")}
            id="diagnosis"
            rows={[...improvement.diagnosis]}
            keyOf={(repairs) => repairs.part}
            columns={[
              { head: say("replaced"), cell: (repairs) => partName(repairs.part) },
              {
                head: say("repaired"),
                cell: (repairs) => `${count(repairs.repaired)} / ${count(diagnosed)}`,
              },
            ]}
          />
        </>
      )}
      {proposals.length > 0 && (
        <>
          <h2>{say("proposals")}</h2>
          <Proposals proposals={proposals} baseline={improvement.baseline} onApply={setChosen} />
        </>
      )}
      {chosen && <ApplyDialog path={path} proposal={chosen} onClose={() => setChosen(null)} />}
    </>
  );
}

/** Returns a figure before and after a change, or an empty text if it was not measured. */
export function beforeAndAfter(
  before: HeldBackFigures | null,
  after: HeldBackFigures | null,
  name: keyof HeldBackFigures,
  format: (value: number) => string,
): string {
  const [from, to] = [before?.[name] ?? null, after?.[name] ?? null];
  return from === null || to === null ? "" : `${format(from)} → ${format(to)}`;
}

const FIGURES = [
  { name: "score", head: "evals.score", format: (score: number) => score.toFixed(3) },
  { name: "cost", head: "usage.cost", format: dollars },
  { name: "seconds", head: "search.time", format: (seconds: number) => duration(1000 * seconds) },
] as const;

function Proposals(props: {
  proposals: Proposal[];
  baseline: HeldBackFigures | null;
  onApply: (proposal: Proposal) => void;
}) {
  const { proposals, baseline, onApply } = props;
  return (
    <Table
      label={say("proposals")}
      id="proposals"
      rows={proposals}
      keyOf={(proposal) => String(proposal.number)}
      columns={[
        {
          head: say("change"),
          cell: (proposal) => (
            <>
              {partName(proposal.part)}: {proposal.text}
              {proposal.reason && <p class="soft">{proposal.reason}</p>}
            </>
          ),
        },
        ...FIGURES.map(({ name, head, format }) => ({
          head: t(head),
          cell: (proposal: Proposal) => beforeAndAfter(baseline, proposal.figures, name, format),
        })),
        {
          head: say("tokens"),
          class: soft,
          cell: (proposal) => beforeAndAfter(baseline, proposal.figures, "tokens", count),
        },
        { head: say("worse"), cell: (proposal) => (proposal.figures ? count(proposal.worse) : "") },
        {
          head: t("actions"),
          quiet: true,
          cell: (proposal) =>
            proposal.is_offered && (
              <button type="button" onClick={() => onApply(proposal)}>
                {say("apply")}
              </button>
            ),
        },
      ]}
    />
  );
}

/** The confirmation of a proposal. Afterwards, it opens the canary. */
function ApplyDialog(props: { path: string; proposal: Proposal; onClose: () => void }) {
  const { path, proposal, onClose } = props;
  const apply = async (form: FormData) => {
    const { alias } = await json<AppliedProposal>(`${path}/apply`, {
      json: {
        proposal: proposal.number,
        alias: String(form.get("alias")).trim(),
        weight: Number(form.get("weight")),
      },
    });
    go(link("run", "canaries", alias));
  };
  return (
    <FormDialog
      title={say("applyTitle", { number: proposal.number })}
      does={say("apply")}
      onSend={apply}
      onClose={onClose}
    >
      <p>{proposal.text}</p>
      <p class="soft">{say("applyNote")}</p>
      <label>
        <span>{t("canaries.alias")}</span>
        <input name="alias" maxLength={200} />
        <small class="soft">{say("aliasNote")}</small>
      </label>
      <label>
        <span>{t("canaries.weight")}</span>
        <input
          name="weight"
          type="number"
          step="any"
          min={0.001}
          max={1}
          required
          defaultValue={String(DEFAULT_WEIGHT)}
        />
      </label>
    </FormDialog>
  );
}
