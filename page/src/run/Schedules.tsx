// Schedules: apps that run and stores that sync at set times.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { dayAndTime } from "../format";
import { Menu } from "../parts/Menu";
import { jsonOrText } from "../parts/pairs";
import { soft, Table } from "../parts/Table";
import { CardList, Confirm, FormDialog, Listing, pretty, Trouble, useLoaded, useWork } from "../parts/ui";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import { apps, status } from "../status";
import type { Schedule, ScheduledRun } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const MAX_RUNS = 100;
const NEXT_TIMES = 5;
const BASE = "/api/schedules";

export function View() {
  const id = route.value.rest[1];
  return id ? <SchedulePage key={id} id={id} /> : <ScheduleList />;
}

function targetOf(schedule: Schedule): string {
  return schedule.app === null
    ? t("schedules.syncs", { name: schedule.store ?? "" })
    : t("schedules.calls", { name: schedule.app });
}

function timesOf(schedule: Schedule): string {
  return schedule.cron === null
    ? t("schedules.everyTime", { interval: schedule.every ?? "" })
    : `${schedule.cron} (${schedule.timezone})`;
}

function NextTime({ schedule }: { schedule: Schedule }) {
  return schedule.paused === null ? (
    <span class="soft">
      {schedule.next_at !== null && t("schedules.next", { moment: dayAndTime(schedule.next_at) })}
    </span>
  ) : (
    <span class="bad">{t("schedules.paused")}</span>
  );
}

function ScheduleList() {
  const found = useLoaded(() => rows<Schedule>(BASE), "schedules", POLL_INTERVAL_MS);
  const [making, setMaking] = useState(false);
  return (
    <>
      <CardList
        id="schedules"
        title={t("section.schedules")}
        adds={t("schedules.new")}
        found={found}
        none={t("schedules.none")}
        note={t("schedules.noneNote")}
        onAdd={() => setMaking(true)}
      >
        {(schedule) => (
          <li class="card" key={schedule.id}>
            <div class="actions spread">
              <a class="name" href={link("run", "schedules", schedule.id)}>
                {schedule.name}
              </a>
              <NextTime schedule={schedule} />
            </div>
            <p class="soft">
              {targetOf(schedule)} · {timesOf(schedule)}
              {schedule.shared && ` · ${t("schedules.shared")}`}
            </p>
            {schedule.paused !== null && <p class="bad">{schedule.paused}</p>}
          </li>
        )}
      </CardList>
      {making && (
        <FormDialog
          title={t("schedules.new")}
          does={t("create")}
          onSend={(form) => json(BASE, { json: readFields(form) })}
          onClose={() => {
            setMaking(false);
            found.reload();
          }}
        >
          <ScheduleFields />
        </FormDialog>
      )}
    </>
  );
}

/** One schedule: its times, its actions, and the results of its last times. */
function SchedulePage({ id }: { id: string }) {
  const path = `/api/schedules/${part(id)}`;
  const found = useLoaded(() => json<Schedule>(path), path, POLL_INTERVAL_MS);
  const [opened, setOpened] = useState<"" | "change" | "delete">("");
  const [busy, error, work] = useWork();
  const schedule = found.value;
  useTrail({ label: schedule?.name ?? id });
  if (!schedule) return <Trouble error={found.error} retry={found.retry} />;
  const paused = schedule.paused !== null;
  const post = (verb: string) =>
    work(async () => {
      await json(`${path}/${verb}`, { method: "POST" });
      found.reload();
    });
  return (
    <>
      <h1>{schedule.name}</h1>
      <p class="soft" id="schedulestate" aria-live="polite">
        {targetOf(schedule)} · {timesOf(schedule)} · <NextTime schedule={schedule} />
      </p>
      {paused && <p class="bad">{schedule.paused}</p>}
      <p class="soft">
        {t(`missed.${schedule.missed}`)} {t(`overlap.${schedule.overlap}`)}{" "}
        {schedule.pause_after > 0 && t("schedules.pausesAfter", { failures: schedule.pause_after })}
      </p>
      {schedule.input !== null && <pre>{pretty(schedule.input)}</pre>}
      <div class="actions">
        <button type="button" class="primary" disabled={busy} onClick={() => post("run")}>
          {t("schedules.run")}
        </button>
        <Menu name={schedule.name}>
          <button type="button" onClick={() => setOpened("change")}>
            {t("edit")}
          </button>
          <button type="button" disabled={busy} onClick={() => post(paused ? "resume" : "pause")}>
            {t(paused ? "schedules.resume" : "schedules.pause")}
          </button>
          <button type="button" class="danger" disabled={busy} onClick={() => setOpened("delete")}>
            {t("delete")}
          </button>
        </Menu>
      </div>
      <Trouble error={error || found.error} />
      <h2>{t("schedules.times")}</h2>
      <NextTimes path={path} about={`${timesOf(schedule)} ${schedule.next_at}`} />
      <h2>{t("section.runs")}</h2>
      <ScheduledRuns path={path} />
      {opened === "change" && (
        <FormDialog
          title={schedule.name}
          does={t("save")}
          onSend={async (form) => {
            await json(path, { method: "PATCH", json: readFields(form) });
            found.reload();
          }}
          onClose={() => setOpened("")}
        >
          <ScheduleFields given={schedule} />
        </FormDialog>
      )}
      {opened === "delete" && (
        <Confirm
          title={t("schedules.delete", { name: schedule.name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              go(link("run", "schedules"));
            })
          }
        />
      )}
    </>
  );
}

/** The next times, or the times it would have if it were not paused. Reloads when `about` changes. */
function NextTimes({ path, about }: { path: string; about: string }) {
  const found = useLoaded(() => rows<number>(`${path}/next?count=${NEXT_TIMES}`), `${path} ${about}`);
  return (
    <>
      <Trouble error={found.error} retry={found.retry} />
      <p class="soft" id="nexttimes">
        {found.value?.map(dayAndTime).join(" · ")}
      </p>
    </>
  );
}

function ScheduledRuns({ path }: { path: string }) {
  const found = useLoaded(
    () => rows<ScheduledRun>(`${path}/runs?limit=${MAX_RUNS}`),
    `${path}/runs`,
    POLL_INTERVAL_MS,
  );
  return (
    <Listing found={found} none={t("schedules.noRuns")} note={t("schedules.noRunsNote")}>
      {(listed) => (
        <Table
          label={t("section.runs")}
          id="scheduledruns"
          rows={listed}
          keyOf={(one) => `${one.due_at} ${one.run} ${one.cause}`}
          columns={[
            { head: t("schedules.due"), cell: (one) => dayAndTime(one.due_at) },
            { head: t("schedules.cause"), class: soft, cell: (one) => t(`cause.${one.cause}`) },
            {
              head: t("schedules.run.head"),
              cell: (one) => one.run && <a href={link("run", "runs", one.run)}>{one.run}</a>,
            },
            { head: t("files.state"), cell: (one) => <Outcome one={one} /> },
          ]}
        />
      )}
    </Listing>
  );
}

function Outcome({ one }: { one: ScheduledRun }) {
  if (one.skipped !== null)
    return <span class="soft">{t("schedules.skipped", { reason: one.skipped })}</span>;
  if (one.status === null) return <span class="soft">{t("schedules.forgotten")}</span>;
  const colour = one.status === "completed" ? "good" : one.status === "failed" ? "bad" : "soft";
  return (
    <>
      <span class={colour}>{one.status}</span>
      {one.error?.message && <p class="bad">{one.error.message}</p>}
    </>
  );
}

/** The fields for action and times, with the initial values of `given`. */
function ScheduleFields({ given }: { given?: Schedule }) {
  const followed = status.value?.stores.filter((store) => store.folder ?? store.source) ?? [];
  const [kind, setKind] = useState<"app" | "store">(given?.store ? "store" : "app");
  const known = kind === "app" ? apps.value.map((app) => app.name) : followed.map((store) => store.name);
  return (
    <>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={128} defaultValue={given?.name ?? ""} />
      </label>
      <label>
        <span>{t("schedules.kind")}</span>
        <select
          name="kind"
          value={kind}
          onChange={(event) => setKind(event.currentTarget.value === "store" ? "store" : "app")}
        >
          <option value="app">{t("schedules.kindApp")}</option>
          <option value="store">{t("schedules.kindStore")}</option>
        </select>
      </label>
      <label>
        <span>{t(kind === "app" ? "schedules.app" : "schedules.store")}</span>
        <input
          name="target"
          required
          list="scheduletargets"
          maxLength={200}
          defaultValue={given?.app ?? given?.store ?? ""}
        />
        <datalist id="scheduletargets">
          {known.map((name) => (
            <option key={name} value={name} />
          ))}
        </datalist>
      </label>
      {kind === "app" && (
        <label>
          <span>{t("schedules.input")}</span>
          <textarea
            name="input"
            rows={3}
            defaultValue={given && given.input !== null ? pretty(given.input) : ""}
          />
          <small class="soft">{t("schedules.inputNote")}</small>
        </label>
      )}
      <label>
        <span>{t("schedules.when")}</span>
        <input
          name="when"
          required
          maxLength={200}
          placeholder="0 7 * * 1-5"
          defaultValue={given?.cron ?? given?.every ?? ""}
        />
        <small class="soft">{t("schedules.whenNote")}</small>
      </label>
      <label>
        <span>{t("schedules.timezone")}</span>
        <input
          name="timezone"
          maxLength={64}
          placeholder="UTC"
          defaultValue={given?.timezone ?? Intl.DateTimeFormat().resolvedOptions().timeZone}
        />
        <small class="soft">{t("schedules.timezoneNote")}</small>
      </label>
      <Rule
        name="missed"
        label={t("schedules.missed")}
        rules={{ once: t("missed.once"), all: t("missed.all"), skip: t("missed.skip") }}
        given={given?.missed}
      />
      <Rule
        name="overlap"
        label={t("schedules.overlap")}
        rules={{ skip: t("overlap.skip"), queue: t("overlap.queue"), allow: t("overlap.allow") }}
        given={given?.overlap}
      />
      <label>
        <span>{t("schedules.pauseAfter")}</span>
        <input name="pause_after" type="number" min={0} max={1_000} defaultValue={given?.pause_after ?? 5} />
        <small class="soft">{t("schedules.pauseAfterNote")}</small>
      </label>
    </>
  );
}

function Rule(props: {
  name: string;
  label: string;
  rules: Record<string, string>;
  given?: string | undefined;
}) {
  return (
    <label>
      <span>{props.label}</span>
      <select name={props.name} defaultValue={props.given ?? Object.keys(props.rules)[0] ?? ""}>
        {Object.entries(props.rules).map(([rule, says]) => (
          <option key={rule} value={rule}>
            {says}
          </option>
        ))}
      </select>
    </label>
  );
}

/**
 * Returns the request body for the fields. Unlike a cron expression, an interval begins with a digit and has no spaces.
 */
function readFields(form: FormData): Record<string, unknown> {
  const value = (name: string) => String(form.get(name) ?? "").trim();
  const interval = /^\d\S*$/.test(value("when"));
  const found: Record<string, unknown> = {
    name: value("name"),
    [value("kind")]: value("target"),
    [interval ? "every" : "cron"]: value("when"),
    missed: value("missed"),
    overlap: value("overlap"),
    pause_after: Number(value("pause_after")),
  };
  if (!interval && value("timezone")) found.timezone = value("timezone");
  if (value("kind") === "app") found.input = value("input") ? jsonOrText(value("input")) : null;
  return found;
}
