// Engines: programs that run models, and the environments in which the heavy ones are installed.

import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { count, moment } from "../format";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import { Confirm, Dialog, Listing, Trouble, useLoaded, useWork } from "../parts/ui";
import type { Engine, Finding } from "../types";
import { t, type Word } from "../words/words";
import { EngineParameters } from "./EngineParameters";
import { ProgressCard } from "./ProgressCard";

const POLL_INTERVAL_MS = 5_000;

const STATES: Record<string, Word> = {
  absent: "engine.absent",
  building: "engine.building",
  ready: "engine.ready",
  outdated: "engine.outdated",
  broken: "engine.broken",
  "built in": "engine.builtIn",
  plugin: "engine.plugin",
};

export function View() {
  const found = useLoaded(() => rows<Engine>("/api/engines"), "engines", POLL_INTERVAL_MS);
  return (
    <>
      <h1>{t("section.engines")}</h1>
      <Listing found={found} none={t("engines.none")}>
        {(engines) => (
          <ul class="cards" id="engines">
            {engines.map((engine) => (
              <EngineCard key={engine.name} engine={engine} onChange={found.reload} />
            ))}
          </ul>
        )}
      </Listing>
    </>
  );
}

function noteOf(engine: Engine): string {
  return [
    engine.version,
    engine.python ? `Python ${engine.python}` : "",
    engine.packages ? t("engines.packages", { count: count(engine.packages) }) : "",
    engine.gigabytes ? t("engines.size", { size: count(engine.gigabytes) }) : "",
    engine.built_at ? t("engines.built", { moment: moment(engine.built_at) }) : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

function EngineCard({ engine, onChange }: { engine: Engine; onChange: () => void }) {
  const { name, state, problem } = engine;
  const [opened, setOpened] = useState<"" | "check" | "parameters" | "remove">("");
  const [run, setRun] = useState("");
  const [busy, error, work] = useWork();
  const path = `/api/engines/${part(name)}`;
  const isInstalled = engine.path !== "";
  const isBroken = state === "broken";
  const install = (rebuild: boolean) =>
    work(async () => {
      setRun((await json<{ run: string }>(`${path}/install`, { json: { rebuild } })).run);
      onChange();
    });
  return (
    <li class="card" data-engine={name}>
      <div class="actions spread">
        <span class="name">{name}</span>
        <span class="actions">
          <span class={`state ${isBroken ? "bad" : state === "absent" ? "soft" : "good"}`}>
            {STATES[state] ? t(STATES[state]) : state}
          </span>
          {state === "absent" && !problem && (
            <button type="button" disabled={busy} onClick={() => install(false)}>
              {t("engines.install")}
            </button>
          )}
          <Menu name={name}>
            <button type="button" onClick={() => setOpened("parameters")}>
              {t("engines.parameters")}
            </button>
            {isInstalled && (
              <>
                <button type="button" onClick={() => setOpened("check")}>
                  {t("engines.check")}
                </button>
                <button type="button" disabled={busy} onClick={() => install(true)}>
                  {t("engines.rebuild")}
                </button>
                <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
                  {t("engines.remove")}
                </button>
              </>
            )}
          </Menu>
        </span>
      </div>
      <p class="soft">{noteOf(engine)}</p>
      {problem && <p class={isBroken ? "bad" : "soft"}>{problem}</p>}
      <Trouble error={error} />
      {run && (
        <ProgressCard
          key={run}
          run={run}
          label={t("engines.installs", { name })}
          done={t("engines.installed", { name })}
          onEnd={onChange}
        />
      )}
      {opened === "check" && <Check engine={name} onClose={() => setOpened("")} />}
      {opened === "parameters" && (
        <Dialog title={t("engines.parametersOf", { name })} onClose={() => setOpened("")} side>
          <EngineParameters engine={name} />
        </Dialog>
      )}
      {opened === "remove" && (
        <Confirm
          title={t("engines.removeNamed", { name })}
          does={t("engines.remove")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              onChange();
            })
          }
        />
      )}
    </li>
  );
}

/** The results of a check of an engine's environment. */
function Check({ engine, onClose }: { engine: string; onClose: () => void }) {
  const found = useLoaded(
    () => rows<Finding>(`/api/engines/${part(engine)}/doctor`, { method: "POST" }),
    engine,
  );
  return (
    <Dialog title={t("engines.checked", { name: engine })} onClose={onClose} side>
      <Listing found={found} none={t("engines.none")}>
        {(findings) => (
          <Table
            label={t("engines.checked", { name: engine })}
            id="findings"
            rows={findings}
            keyOf={(finding) => finding.check}
            columns={[
              { head: t("name"), cell: (finding) => finding.check },
              {
                head: t("files.state"),
                class: (finding) => (finding.ok ? "good" : "bad"),
                cell: (finding) => t(finding.ok ? "engines.sound" : "engines.wrong"),
              },
              { head: t("engines.detail"), class: soft, cell: (finding) => finding.detail },
            ]}
          />
        )}
      </Listing>
    </Dialog>
  );
}
