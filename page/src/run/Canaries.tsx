// Canaries: aliases whose calls are split between the current target and a new one.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { count, dayAndTime, duration } from "../format";
import { soft, Table } from "../parts/Table";
import { CardList, FormDialog, Listing, Trouble, useLoaded } from "../parts/ui";
import { useTrail } from "../places/trail";
import { link, route } from "../route";
import { status } from "../status";
import type { Canary } from "../types";
import { t } from "../words/words";

const POLL_INTERVAL_MS = 3_000;
const MAX_REASON_CHARS = 500;
const DEFAULT_WEIGHT = 0.1;
const BASE = "/api/canaries";

type Rule = Partial<Record<Condition, number>>;

/** The conditions of a rule, with their maximum values. */
const BOUNDS = {
  after: 100_000_000,
  min_samples: 100_000_000,
  min_score: 1,
  max_drop: 1,
  max_error_rate: 1,
  max_latency_ratio: 1_000,
};

type Condition = keyof typeof BOUNDS;
const CONDITIONS = Object.keys(BOUNDS) as Condition[];
const COLOURS = { running: "soft", promoted: "good", rolled_back: "bad" };

export function View() {
  const alias = route.value.rest[1];
  return alias ? <CanaryPage key={alias} alias={alias} /> : <Canaries />;
}

function share(value: number | null): string {
  return value === null ? "" : `${(100 * value).toFixed(1)} %`;
}

function State({ canary }: { canary: Canary }) {
  return <span class={COLOURS[canary.status]}>{t(`canary.${canary.status}`)}</span>;
}

function splitOf({ canary, baseline, weight }: Canary): string {
  const given = { canary: canary.target, baseline: baseline.target, weight: share(weight) };
  return t("canaries.split", given);
}

function Canaries() {
  const found = useLoaded(() => rows<Canary>(BASE), "canaries", POLL_INTERVAL_MS);
  const [making, setMaking] = useState(false);
  return (
    <>
      <CardList
        id="canaries"
        title={t("section.canaries")}
        adds={t("canaries.new")}
        found={found}
        none={t("canaries.none")}
        note={t("canaries.noneNote")}
        onAdd={() => setMaking(true)}
      >
        {(canary) => (
          <li class="card" key={canary.id}>
            <div class="actions spread">
              <a class="name" href={link("run", "canaries", canary.alias)}>
                {canary.alias}
              </a>
              <State canary={canary} />
            </div>
            <p class="soft">{splitOf(canary)}</p>
            <p class="soft">
              {t("canaries.calls", { calls: count(canary.canary.calls) })}
              {canary.reason && ` · ${canary.reason}`}
            </p>
          </li>
        )}
      </CardList>
      {making && <SetCanary onClose={() => setMaking(false)} onSet={found.reload} />}
    </>
  );
}

/** The newest canary of an alias: statistics of both sides, missing conditions, and actions. */
function CanaryPage({ alias }: { alias: string }) {
  const path = `/api/canaries/${part(alias)}`;
  const found = useLoaded(() => json<Canary>(path), path, POLL_INTERVAL_MS);
  const [opened, setOpened] = useState<"" | "change" | "promote" | "rollback">("");
  const canary = found.value;
  useTrail({ label: alias });
  if (!canary) return <Trouble error={found.error} retry={found.retry} />;
  return (
    <>
      <h1>{alias}</h1>
      <p class="soft" id="canarystate" aria-live="polite">
        <State canary={canary} /> · {splitOf(canary)}
        {canary.reason && ` · ${canary.reason}`}
      </p>
      <p class="soft">
        {t(`sticky.${canary.sticky}`)}
        {canary.keys.length > 0 && ` · ${t("canaries.always", { keys: canary.keys.join(", ") })}`}
        {canary.eval && ` · ${t("canaries.judged", { eval: canary.eval, sample: share(canary.sample) })}`}
      </p>
      <RuleOf name={t("canaries.promoteRule")} rule={canary.promote} />
      <RuleOf name={t("canaries.rollbackRule")} rule={canary.rollback} />
      {canary.status === "running" && (
        <>
          {canary.waits_for.length > 0 && (
            <p id="waitsfor">{t("canaries.waits", { what: canary.waits_for.join("; ") })}</p>
          )}
          <div class="actions">
            <button type="button" class="primary" onClick={() => setOpened("promote")}>
              {t("canaries.promote")}
            </button>
            <button type="button" onClick={() => setOpened("change")}>
              {t("edit")}
            </button>
            <button type="button" class="danger" onClick={() => setOpened("rollback")}>
              {t("canaries.rollback")}
            </button>
          </div>
        </>
      )}
      <Trouble error={found.error} />
      <Sides canary={canary} />
      <h2>{t("canaries.journal")}</h2>
      <Table
        label={t("canaries.journal")}
        id="canaryjournal"
        rows={canary.journal}
        keyOf={(entry) => `${entry.at} ${entry.action}`}
        columns={[
          { head: t("canaries.at"), class: soft, cell: (entry) => dayAndTime(entry.at) },
          { head: t("canaries.done"), cell: (entry) => t(`canary.${entry.action}`) },
          { head: t("canaries.by"), class: soft, cell: (entry) => entry.by ?? t("canaries.byRule") },
          { head: t("canaries.reason"), cell: (entry) => entry.reason },
        ]}
      />
      <History path={path} about={canary.id} />
      {opened === "change" && <SetCanary given={canary} onClose={() => setOpened("")} onSet={found.reload} />}
      {(opened === "promote" || opened === "rollback") && (
        <FormDialog
          title={t(`canaries.${opened}Title`, { alias, target: canary.canary.target })}
          does={t(`canaries.${opened}`)}
          onSend={async (form) => {
            await json(`${path}/${opened}`, { json: { reason: form.get("reason") } });
            found.reload();
          }}
          onClose={() => setOpened("")}
        >
          <label>
            <span>{t("canaries.reason")}</span>
            <input name="reason" maxLength={MAX_REASON_CHARS} />
          </label>
        </FormDialog>
      )}
    </>
  );
}

function RuleOf({ name, rule }: { name: string; rule: Rule | null }) {
  if (!rule) return null;
  const said = CONDITIONS.filter((one) => rule[one] !== undefined).map(
    (one) => `${t(`condition.${one}`)}: ${count(rule[one] ?? 0)}`,
  );
  return (
    <p class="soft">
      {name}: {said.join(" · ")}
    </p>
  );
}

function Sides({ canary }: { canary: Canary }) {
  return (
    <Table
      label={t("canaries.sides")}
      id="canarysides"
      rows={[
        { name: t("canaries.baseline"), ...canary.baseline },
        { name: t("canaries.canary"), ...canary.canary },
      ]}
      keyOf={(side) => side.name}
      columns={[
        { head: t("canaries.side"), cell: (side) => side.name },
        { head: t("canaries.target"), cell: (side) => side.target },
        { head: t("canaries.callsHead"), cell: (side) => count(side.calls) },
        {
          head: t("canaries.errors"),
          cell: (side) => `${count(side.errors)} ${side.error_rate ? `(${share(side.error_rate)})` : ""}`,
        },
        {
          head: t("canaries.time"),
          cell: (side) => (side.milliseconds === null ? "" : duration(side.milliseconds)),
        },
        { head: t("canaries.tokens"), cell: (side) => count(side.tokens) },
        { head: t("canaries.samples"), cell: (side) => count(side.samples) },
        { head: t("evals.score"), cell: (side) => side.score?.toFixed(3) },
      ]}
    />
  );
}

/** The previous canaries of the alias. */
function History({ path, about }: { path: string; about: string }) {
  const found = useLoaded(() => rows<Canary>(`${path}/history`), `${path} ${about}`);
  if (found.value && found.value.length < 2) return null;
  return (
    <>
      <h2>{t("canaries.history")}</h2>
      <Listing found={found} none={t("canaries.none")}>
        {(listed) => (
          <Table
            label={t("canaries.history")}
            id="canaryhistory"
            rows={listed}
            keyOf={(canary) => canary.id}
            columns={[
              { head: t("canaries.at"), class: soft, cell: (canary) => dayAndTime(canary.created_at) },
              { head: t("files.state"), cell: (canary) => <State canary={canary} /> },
              { head: t("canaries.target"), cell: splitOf },
              { head: t("canaries.reason"), class: soft, cell: (canary) => canary.reason },
            ]}
          />
        )}
      </Listing>
    </>
  );
}

/** The form that starts a canary, or changes the weight and the rules of the running canary `given`. */
function SetCanary({ given, ...on }: { given?: Canary; onClose: () => void; onSet: () => void }) {
  const known = (status.value?.models ?? []).map((model) => model.name);
  const aliases = (status.value?.models ?? []).flatMap((model) => model.aliases);
  const set = async (form: FormData) => {
    const path = `/api/canaries/${part(given?.alias ?? String(form.get("alias")))}`;
    await json(path, { method: "PUT", json: readFields(form) });
    on.onSet();
  };
  const does = given ? t("save") : t("canaries.start");
  return (
    <FormDialog title={given?.alias ?? t("canaries.new")} does={does} onSend={set} onClose={on.onClose}>
      {!given && (
        <label>
          <span>{t("canaries.alias")}</span>
          <input name="alias" required maxLength={200} list="aliases" />
          <small class="soft">{t("canaries.aliasNote")}</small>
          <Known id="aliases" names={aliases} />
        </label>
      )}
      <label>
        <span>{t("canaries.next")}</span>
        <input
          name="target"
          required
          maxLength={200}
          list="targets"
          readOnly={given !== undefined}
          defaultValue={given?.canary.target ?? ""}
        />
        <small class="soft">{t("canaries.nextNote")}</small>
        <Known id="targets" names={known} />
      </label>
      <Figure name="weight" label={t("canaries.weight")} most={1} given={given?.weight ?? DEFAULT_WEIGHT} />
      <label>
        <span>{t("canaries.keys")}</span>
        <input name="keys" defaultValue={given?.keys.join(", ") ?? ""} />
        <small class="soft">{t("canaries.keysNote")}</small>
      </label>
      <label>
        <span>{t("canaries.sticky")}</span>
        <select name="sticky" defaultValue={given?.sticky ?? "session"}>
          {(["session", "caller", "request"] as const).map((rule) => (
            <option key={rule} value={rule}>
              {t(`sticky.${rule}`)}
            </option>
          ))}
        </select>
      </label>
      <Figure
        name="min_confidence"
        label={t("canaries.minConfidence")}
        most={1}
        given={given?.min_confidence ?? undefined}
      />
      <label>
        <span>{t("canaries.eval")}</span>
        <input name="eval" maxLength={200} defaultValue={given?.eval ?? ""} />
      </label>
      <Figure name="sample" label={t("canaries.sample")} most={1} given={given?.sample || undefined} />
      <RuleFields rule="promote" legend={t("canaries.promoteRule")} given={given?.promote ?? null} />
      <RuleFields rule="rollback" legend={t("canaries.rollbackRule")} given={given?.rollback ?? null} />
    </FormDialog>
  );
}

function Known({ id, names }: { id: string; names: string[] }) {
  return (
    <datalist id={id}>
      {names.map((name) => (
        <option key={name} value={name} />
      ))}
    </datalist>
  );
}

function Figure(props: { name: string; label: string; most: number; given?: number | undefined }) {
  const { name, label, most, given } = props;
  const whole = most > BOUNDS.max_latency_ratio;
  return (
    <label>
      <span>{label}</span>
      <input
        name={name}
        type="number"
        step={whole ? 1 : "any"}
        min={whole ? 1 : 0}
        max={most}
        defaultValue={given === undefined ? "" : String(given)}
      />
    </label>
  );
}

function RuleFields(props: { rule: "promote" | "rollback"; legend: string; given: Rule | null }) {
  return (
    <fieldset>
      <legend>{props.legend}</legend>
      <p class="soft">{t(`canaries.${props.rule}Note`)}</p>
      <div class="fields">
        {CONDITIONS.map((one) => (
          <Figure
            key={one}
            name={`${props.rule}.${one}`}
            label={t(`condition.${one}`)}
            most={BOUNDS[one]}
            given={props.given?.[one]}
          />
        ))}
      </div>
    </fieldset>
  );
}

/** Returns the request body for the fields. Empty fields are omitted. */
function readFields(form: FormData): Record<string, unknown> {
  const value = (name: string) => String(form.get(name) ?? "").trim();
  const figures = (names: string[], prefix = "") =>
    Object.fromEntries(
      names.filter((name) => value(prefix + name)).map((name) => [name, Number(value(prefix + name))]),
    );
  const found: Record<string, unknown> = {
    target: value("target"),
    sticky: value("sticky"),
    keys: value("keys")
      .split(/[,\s]+/)
      .filter(Boolean),
    ...figures(["weight", "min_confidence", "sample"]),
  };
  if (value("eval")) found.eval = value("eval");
  for (const rule of ["promote", "rollback"]) {
    const conditions = figures(CONDITIONS, `${rule}.`);
    if (Object.keys(conditions).length) found[rule] = conditions;
  }
  return found;
}
