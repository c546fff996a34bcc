import { useState } from "preact/hooks";
import { json, type ListPage, part, rows } from "../api";
import { choose, startNew } from "../chat/conversation";
import { uploadFile } from "../documents/upload";
import { count, moment } from "../format";
import { Chart } from "../parts/Chart";
import { Next } from "../parts/Table";
import { Dialog, Listing, Trouble, useLoaded, usePages, useWork } from "../parts/ui";
import { aliasesOf, refresh, status } from "../status";
import type { FineTuningJob, JobCheckpoint, JobEvent, TuningPlan } from "../types";
import { t } from "../words/words";
import { AliasDialog } from "./Models";

const POLL_INTERVAL_MS = 3_000;
const JOBS_AT_ONCE = 50;
const MAX_EVENTS = 1_000;
const OPEN = new Set(["validating_files", "queued", "running"]);

function stateOf(job: FineTuningJob): FineTuningJob["status"] | "paused" {
  return job.paused ? "paused" : job.status;
}

export function Finetunes() {
  const jobs = usePages(
    (after) => json<ListPage<FineTuningJob>>(`/v1/fine_tuning/jobs?limit=${JOBS_AT_ONCE}${after}`),
    "jobs",
    "",
    POLL_INTERVAL_MS,
  );
  const [starting, setStarting] = useState(false);
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.finetunes")}</h1>
        {!jobs.denied && (
          <button type="button" class="primary" onClick={() => setStarting(true)}>
            {t("tune.new")}
          </button>
        )}
      </div>
      <Listing found={jobs} none={t("tune.none")} note={t("tune.noneNote")}>
        {(listed) => (
          <ul class="cards" id="jobs">
            {listed.map((job) => (
              <JobCard key={job.id} job={job} onChange={jobs.reload} />
            ))}
          </ul>
        )}
      </Listing>
      {jobs.next && <Next load={jobs.next} after={jobs.value ?? []} />}
      {starting && <NewJob onClose={() => setStarting(false)} onStart={jobs.reload} />}
    </>
  );
}

function JobCard({ job, onChange }: { job: FineTuningJob; onChange: () => void }) {
  const [opened, setOpened] = useState(false);
  const [promoting, setPromoting] = useState(false);
  const [busy, error, work] = useWork();
  const trained = job.fine_tuned_model;
  const names = trained ? aliasesOf(trained) : [];
  const talk = (model: string) =>
    work(async () => {
      await refresh();
      choose(model);
      startNew();
    });
  const change = (what: "pause" | "resume" | "cancel") =>
    work(async () => {
      await json(`/v1/fine_tuning/jobs/${part(job.id)}/${what}`, { method: "POST" });
      onChange();
    });
  const state = stateOf(job);
  const may = OPEN.has(state) ? (["pause", "cancel"] as const) : (["resume", "cancel"] as const);
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">{trained ?? job.model}</span>
        <span class={job.status === "failed" ? "bad" : job.status === "succeeded" ? "good" : "soft"}>
          {t(`tune.is.${state}`)}
        </span>
      </div>
      <p class="soft">
        {[
          names.join(", "),
          job.model,
          job.total_steps ? t("tune.step", { step: job.step ?? 0, total: job.total_steps }) : "",
          job.trained_tokens ? t("answer.tokens", { count: count(job.trained_tokens) }) : "",
          moment(job.created_at),
        ]
          .filter(Boolean)
          .join(" · ")}
      </p>
      {job.total_steps && OPEN.has(state) && (
        <progress max={job.total_steps} value={job.step ?? 0} aria-label={job.id} />
      )}
      <Trouble error={job.error?.message ?? error} />
      {(OPEN.has(state) || state === "paused") && (
        <div class="actions">
          {may.map((what) => (
            <button key={what} type="button" disabled={busy} onClick={() => change(what)}>
              {t(`tune.${what}`)}
            </button>
          ))}
        </div>
      )}
      {trained && (
        <div class="actions">
          <button type="button" disabled={busy} onClick={() => talk(trained)}>
            {t("tune.talk")}
          </button>
          <button type="button" disabled={busy} onClick={() => setPromoting(true)}>
            {t("tune.promote")}
          </button>
        </div>
      )}
      {promoting && trained && (
        <AliasDialog model={trained} does={t("tune.promote")} onClose={() => setPromoting(false)} />
      )}
      <details class="aside" onToggle={(event) => setOpened(event.currentTarget.open)}>
        <summary>{t("tune.curves")}</summary>
        {opened && <Progress job={job} />}
      </details>
    </li>
  );
}

/** Curves, checkpoints and events of a job, updated while they are visible. */
function Progress({ job }: { job: FineTuningJob }) {
  const path = `/v1/fine_tuning/jobs/${part(job.id)}`;
  const state = stateOf(job);
  const every = OPEN.has(state) ? POLL_INTERVAL_MS : 0;
  const events = useLoaded(
    async () => (await rows<JobEvent>(`${path}/events?limit=${MAX_EVENTS}`)).reverse(),
    `${job.id} ${state}`,
    every,
  );
  const checkpoints = useLoaded(
    () => rows<JobCheckpoint>(`${path}/checkpoints`),
    `${job.id} ${state}`,
    every,
  );
  const lines = (["train_loss", "valid_loss"] as const).map((name) => ({
    name: t(`tune.${name}`),
    points: (events.value ?? []).flatMap(({ data }) =>
      typeof data?.[name] === "number" ? [{ x: Number(data.step ?? 0), y: data[name] }] : [],
    ),
  }));
  const drawn = lines.filter((line) => line.points.length);
  return (
    <>
      <Trouble error={events.error || checkpoints.error} retry={events.retry} />
      {drawn.length > 0 && <Chart label={t("tune.curves")} lines={drawn} xName={t("tune.steps")} />}
      {checkpoints.value && checkpoints.value.length > 0 && (
        <p class="soft">
          {t("tune.checkpoints")}: {checkpoints.value.map((each) => each.step_number).join(", ")}
        </p>
      )}
      <ul>
        {events.value
          ?.filter((event) => event.type === "message")
          .map((event) => (
            <li key={event.id} class={event.level === "error" ? "bad" : "soft"}>
              {event.message}
            </li>
          ))}
      </ul>
    </>
  );
}

/** The form of a new job. Examples are uploaded and checked, and the recipe is shown before training starts. */
function NewJob({ onClose, onStart }: { onClose: () => void; onStart: () => void }) {
  const [plan, setPlan] = useState<TuningPlan | null>(null);
  const [wanted, setWanted] = useState<Record<string, unknown> | null>(null);
  const [busy, error, work] = useWork();
  const models = (status.value?.models ?? []).filter((model) => model.task === "chat");
  const check = (form: FormData) =>
    work(async () => {
      const file = form.get("examples") as File;
      const suffix = String(form.get("suffix")).trim();
      const job = {
        model: String(form.get("model")),
        training_file: await uploadFile(file, file.name, "fine-tune"),
        ...(suffix ? { suffix } : {}),
      };
      setPlan(await json<TuningPlan>("/api/fine_tuning/plan", { json: job }));
      setWanted(job);
    });
  const start = () =>
    work(async () => {
      await json("/v1/fine_tuning/jobs", { json: wanted });
      onStart();
      onClose();
    });
  return (
    <Dialog title={t("tune.new")} onClose={onClose}>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          check(new FormData(event.currentTarget));
        }}
        onInput={() => setPlan(null)}
      >
        <label>
          <span>{t("kind.model")}</span>
          <select name="model" required>
            {models.map((model) => (
              <option key={model.name} selected={model.aliases.includes("default")}>
                {model.name}
              </option>
            ))}
          </select>
        </label>
        <label>
          <span>{t("tune.examples")}</span>
          <input name="examples" id="examples" type="file" accept=".jsonl,.json,.csv" required />
          <small class="soft">{t("tune.examplesNote")}</small>
        </label>
        <label>
          <span>{t("tune.suffix")}</span>
          <input name="suffix" maxLength={18} />
        </label>
        <Trouble error={error} />
        {plan && <PlanView plan={plan} />}
        <div class="actions">
          <button type="submit" disabled={busy}>
            {t("tune.check")}
          </button>
          {plan && (
            <button type="button" class="primary" disabled={busy} onClick={start}>
              {t("tune.start")}
            </button>
          )}
        </div>
      </form>
    </Dialog>
  );
}

function PlanView({ plan }: { plan: TuningPlan }) {
  const { reasons, ...recipe } = plan.recipe;
  const plain = Object.entries(recipe).filter(([, value]) => typeof value !== "object");
  return (
    <div class="aside plan" id="tuningplan">
      {plan.warnings.map((warning) => (
        <p key={warning} class="bad">
          {warning}
        </p>
      ))}
      <ul>
        {plain.map(([name, value]) => (
          <li key={name}>
            <code>{name}</code> {String(value)}{" "}
            <span class="soft">{(reasons as Record<string, string> | undefined)?.[name]}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
