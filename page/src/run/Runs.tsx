import { useState } from "preact/hooks";
import { followRun, json, type ListPage, part } from "../api";
import { QuestionView } from "../chat/AnswerView";
import { count, duration, moment } from "../format";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import { Dialog, Lazy, Listing, Trouble, useLoaded, usePages, useWork } from "../parts/ui";
import { go, link, route } from "../route";
import { status } from "../status";
import type { RunDescription, RunTrace } from "../types";
import { t } from "../words/words";
import { useProgress } from "./progress";
import { RunDiagram } from "./RunDiagram";
import { Waterfall } from "./Waterfall";

const POLL_INTERVAL_MS = 3_000;
const RUNS_AT_ONCE = 100;
const STARTED = new Set(["queued", "running", "waiting"]);

export function Runs() {
  const found = usePages(
    (after) => json<ListPage<RunDescription>>(`/api/runs?limit=${RUNS_AT_ONCE}${after}`),
    "runs",
    "",
    POLL_INTERVAL_MS,
  );
  const [busy, error, work] = useWork();
  const [isPruning, setPruning] = useState(false);
  const opened = route.value.rest[1];
  const cancel = (run: RunDescription) =>
    work(async () => {
      await json(`/api/runs/${part(run.id)}/cancel`, { method: "POST" });
      found.reload();
    });
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.runs")}</h1>
        <Menu name={t("section.runs")}>
          <button type="button" class="danger" onClick={() => setPruning(true)}>
            {t("prune.title")}
          </button>
        </Menu>
      </div>
      <Trouble error={error} />
      <Listing found={found} none={t("runs.none")} note={t("runs.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.runs")}
            id="runs"
            rows={listed}
            next={found.next}
            keyOf={(run) => run.id}
            text={(run) => `${titleOf(run)} ${run.status} ${run.id}`}
            columns={[
              {
                head: t("runs.what"),
                cell: (run) => (
                  <>
                    <a href={link("run", "runs", run.id)}>{titleOf(run)}</a>
                    {run.error && <p class="bad">{String(run.error.message)}</p>}
                  </>
                ),
              },
              {
                head: t("files.state"),
                class: (run) => (run.status === "failed" ? "bad" : "soft"),
                cell: (run) => t(`runs.${run.status}`),
              },
              { head: t("runs.began"), class: soft, cell: (run) => moment(run.created_at) },
              { head: t("search.time"), class: soft, cell: lasted },
              {
                head: t("actions"),
                quiet: true,
                cell: (run) =>
                  STARTED.has(run.status) && (
                    <button type="button" disabled={busy} onClick={() => cancel(run)}>
                      {t("stop")}
                    </button>
                  ),
              },
            ]}
          />
        )}
      </Listing>
      {isPruning && (
        <Lazy
          name="prune"
          load={() => import("./Prune")}
          given={{ onClose: () => setPruning(false), onPrune: found.reload }}
        />
      )}
      {opened && <RunDialog key={opened} id={opened} onChange={found.reload} />}
    </>
  );
}

/** Returns the display name of a run. Jobs of a store are named after the store's id. */
function titleOf(run: RunDescription): string {
  const id = run.name.split("/").at(-1);
  const store = status.value?.stores.find((each) => each.id === id);
  return `${run.kind} · ${store ? run.name.replace(store.id, store.name) : run.name}`;
}

function lasted(run: RunDescription): string {
  return run.finished_at ? duration(1000 * (run.finished_at - run.created_at)) : "";
}

interface GuardHit {
  type: string;
  guard: string;
  kind: string;
  place: string;
  action: string;
  count: number;
}

/** Returns the detections of guards in a finished run: kind and action, never the content. */
async function guardHits(run: string): Promise<GuardHit[]> {
  const found: GuardHit[] = [];
  for await (const event of followRun<GuardHit>(run, new AbortController().signal)) {
    if (event.type === "guarded") found.push(event);
  }
  return found;
}

/** One run: its status, and the input and output of each step. */
function RunDialog({ id, onChange }: { id: string; onChange: () => void }) {
  const path = `/api/runs/${part(id)}`;
  const run = useLoaded(() => json<RunDescription>(path), path, POLL_INTERVAL_MS);
  const trace = useLoaded(() => json<RunTrace>(`${path}/trace`), path, POLL_INTERVAL_MS);
  const [busy, error, work] = useWork();
  const again = (what: "resume" | "fork", start: string) =>
    work(async () => {
      const made = await json<RunDescription>(`${path}/${what}`, { json: { from: start } });
      onChange();
      go(link("run", "runs", made.id));
      run.reload();
      trace.reload();
    });
  const [opened, setOpened] = useState({ step: route.value.rest[2] ?? "" });
  const now = run.value;
  const ended = now !== null && !STARTED.has(now.status);
  return (
    <Dialog title={now ? titleOf(now) : id} onClose={() => go(link("run", "runs"))} side>
      <Trouble error={run.error || trace.error || error} retry={run.retry} />
      {now && (
        <p class="soft">
          {[t(`runs.${now.status}`), moment(now.created_at), lasted(now), id].filter(Boolean).join(" · ")}
        </p>
      )}
      {now?.error && <p class="bad">{String(now.error.message)}</p>}
      {ended && <GuardHits run={id} />}
      {now && !ended && <WaitsFor run={id} />}
      {now?.kind === "flow" && trace.value && (
        <RunDiagram
          run={id}
          name={now.name}
          trace={trace.value.steps}
          isEnded={ended}
          onOpen={(step) => {
            setOpened({ step });
            trace.reload();
          }}
          onEnd={() => {
            run.reload();
            trace.reload();
          }}
        />
      )}
      {trace.value && !trace.value.steps.length && <p class="soft">{t("runs.noSteps")}</p>}
      {trace.value && trace.value.steps.length > 0 && (
        <Waterfall
          steps={trace.value.steps}
          opened={opened}
          isBusy={busy || !ended}
          onFork={(step) => again("fork", step)}
        />
      )}
      {ended && trace.value && trace.value.steps.length > 0 && (
        <div class="actions">
          <button type="button" disabled={busy} onClick={() => again("resume", "")}>
            {t("runs.resume")}
          </button>
        </div>
      )}
    </Dialog>
  );
}

/** The open questions of a run, answered in place. */
function WaitsFor({ run }: { run: string }) {
  const { questions } = useProgress(run);
  return (
    <>
      {questions.map((question) => (
        <QuestionView key={question.id} question={question} />
      ))}
    </>
  );
}

function GuardHits({ run }: { run: string }) {
  const found = useLoaded(() => guardHits(run), run);
  if (!found.value?.length) return <Trouble error={found.error} retry={found.retry} />;
  return (
    <ul id="guarded">
      {found.value.map((hit, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a hit is identified by its position
        <li key={at}>
          <strong>{hit.guard}</strong> {hit.action} · {hit.kind} × {count(hit.count)} · {hit.place}
        </li>
      ))}
    </ul>
  );
}
