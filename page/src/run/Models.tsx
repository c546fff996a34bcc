import { useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { bytes, count } from "../format";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import {
  Confirm,
  Empty,
  FormDialog,
  Lazy,
  LogDialog,
  Skeleton,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import { refresh, status } from "../status";
import type { Deployment, Plan } from "../types";
import { t } from "../words/words";
import { Adapters } from "./Adapters";
import { MemoryBar } from "./MemoryBar";
import { ProgressCard } from "./ProgressCard";

export function Models() {
  const [adding, setAdding] = useState(false);
  const [pulls, setPulls] = useState<string[]>([]);
  const models = status.value?.models ?? [];
  const isEmpty = status.value !== null && !models.length;
  // The status contains no models if the key may not see them.
  const unseen = useLoaded(
    async () => (isEmpty ? rows<Deployment>("/api/deployments") : []),
    `models ${isEmpty}`,
  );
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.models")}</h1>
        {!unseen.denied && (
          <button type="button" class="primary" onClick={() => setAdding(true)}>
            {t("models.add")}
          </button>
        )}
      </div>
      <MemoryBar />
      {pulls.map((run) => (
        <ProgressCard key={run} run={run} label={t("models.pull")} done={t("pull.done")} onEnd={refresh} />
      ))}
      <Trouble error={unseen.error} retry={unseen.retry} />
      {!status.value && <Skeleton />}
      {isEmpty && unseen.value && (
        <Empty title={t("models.none")} icon="model">
          <p class="soft">{t("models.noneNote")}</p>
        </Empty>
      )}
      <ul class="cards" id="models">
        {models.map((model) => (
          <ModelCard key={model.name} model={model} />
        ))}
      </ul>
      {adding && (
        <AddModel onClose={() => setAdding(false)} onPull={(run) => setPulls((before) => [...before, run])} />
      )}
    </>
  );
}

function ModelCard({ model }: { model: Deployment }) {
  const [busy, error, work] = useWork();
  const [plan, setPlan] = useState<Plan | null>(null);
  const [opened, setOpened] = useState<"" | "adapters" | "alias" | "logs" | "parameters" | "remove">("");
  const path = `/api/deployments/${model.name.split("/").map(part).join("/")}`;
  const change = (what: string) =>
    work(async () => {
      await json(`${path}/${what}`, { method: "POST" });
      await refresh();
    });
  const isLoaded = model.state === "ready" || model.state === "loading";
  return (
    <li class="card">
      <div class="actions spread">
        <span class="name">{model.name}</span>
        <span class="actions">
          <span class={`state ${model.state === "failed" ? "bad" : isLoaded ? "good" : "soft"}`}>
            {t(`model.${model.state}`)}
          </span>
          <button type="button" disabled={busy} onClick={() => change(isLoaded ? "unload" : "load")}>
            {isLoaded ? t("models.unload") : t("models.load")}
          </button>
          <Menu name={model.name}>
            <button
              type="button"
              disabled={busy}
              onClick={() =>
                work(async () => setPlan(await json("/api/models/plan", { json: { model: model.name } })))
              }
            >
              {t("models.plan")}
            </button>
            <button type="button" onClick={() => setOpened("alias")}>
              {t("models.alias")}
            </button>
            <button type="button" onClick={() => setOpened("parameters")}>
              {t("models.parameters")}
            </button>
            <button type="button" onClick={() => setOpened("adapters")}>
              {t("adapters.title")}
            </button>
            <button type="button" onClick={() => setOpened("logs")}>
              {t("logs")}
            </button>
            <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
              {t("delete")}
            </button>
          </Menu>
        </span>
      </div>
      <p class="soft">
        {[
          model.aliases.join(", "),
          model.task,
          model.engine,
          bytes(model.memory_bytes),
          model.gpus.length ? t("models.gpus", { numbers: model.gpus.join(", ") }) : "",
          model.source,
        ]
          .filter(Boolean)
          .join(" · ")}
      </p>
      {model.error && <p class="bad">{model.error}</p>}
      <Trouble error={error} />
      {plan && <PlanView plan={plan} />}
      {model.replicas.length > 0 && <Processes model={model} />}
      {opened === "parameters" && (
        <Lazy
          name="parameters"
          load={() => import("./Parameters")}
          given={{ model, onClose: () => setOpened("") }}
        />
      )}
      {opened === "adapters" && <Adapters model={model.name} onClose={() => setOpened("")} />}
      {opened === "alias" && <AliasDialog model={model.name} onClose={() => setOpened("")} />}
      {opened === "logs" && (
        <LogDialog
          title={t("logs.of", { name: model.name })}
          load={() => rows<string>(`${path}/logs`)}
          onClose={() => setOpened("")}
        />
      )}
      {opened === "remove" && (
        <Confirm
          title={t("models.delete", { name: model.name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              await refresh();
            })
          }
        />
      )}
    </li>
  );
}

/** The form that adds an alias to a model, such as the alias that all apps use. */
export function AliasDialog(props: { model: string; does?: string; onClose: () => void }) {
  const name = async (form: FormData) => {
    const path = `/api/aliases/${part(String(form.get("alias")).trim())}`;
    await json(path, { method: "PUT", json: { target: props.model } });
    await refresh();
  };
  return (
    <FormDialog
      title={t("models.aliasTitle", { name: props.model })}
      does={props.does ?? t("save")}
      onSend={name}
      onClose={props.onClose}
    >
      <label>
        <span>{t("name")}</span>
        <input name="alias" required maxLength={256} value="default" />
        <small class="soft">{t("models.aliasNote")}</small>
      </label>
    </FormDialog>
  );
}

/** The processes of a model with several replicas, on all machines. */
function Processes({ model }: { model: Deployment }) {
  const numbered = model.replicas.map((replica, number) => ({ ...replica, number: number + 1 }));
  return (
    <details class="aside">
      <summary>{t("models.processes", { count: numbered.length })}</summary>
      <Table
        label={t("models.processesOf", { name: model.name })}
        rows={numbered}
        keyOf={(replica) => String(replica.number)}
        columns={[
          { head: "#", cell: (replica) => replica.number },
          {
            head: t("files.state"),
            class: (replica) => (replica.state === "failed" ? "bad" : ""),
            cell: (replica) => (
              <>
                {t(`model.${replica.state}`)}
                {replica.error && <p class="bad">{replica.error}</p>}
              </>
            ),
          },
          { head: t("usage.calls"), cell: (replica) => count(replica.calls) },
          { head: t("models.memory"), class: soft, cell: (replica) => bytes(replica.memory_bytes) },
          { head: t("models.starts"), class: soft, cell: (replica) => count(replica.starts) },
          { head: t("models.crashes"), class: soft, cell: (replica) => count(replica.crashes) },
          {
            head: t("models.source"),
            class: soft,
            cell: (replica) => `${replica.engine} · ${replica.source}`,
          },
        ]}
      />
    </details>
  );
}

function PlanView({ plan }: { plan: Plan }) {
  return (
    <div class="aside plan">
      <p>
        <strong class={plan.fits ? "good" : "bad"}>{plan.fits ? t("plan.fits") : t("plan.tooLarge")}</strong>{" "}
        {plan.engine} · {plan.hardware} ·{" "}
        {t("plan.memory", { need: bytes(plan.estimate.total), have: bytes(plan.estimate.available) })}
      </p>
      <ul>
        {[...plan.reasons, plan.nearest].filter(Boolean).map((reason) => (
          <li key={reason}>{reason}</li>
        ))}
      </ul>
    </div>
  );
}

function AddModel({ onClose, onPull }: { onClose: () => void; onPull: (run: string) => void }) {
  const add = async (form: FormData) => {
    const name = String(form.get("name")).trim();
    const wanted = String(form.get("source")).trim();
    await json("/api/deployments", { json: { name, source: wanted } });
    if (form.get("pull") === "on") {
      onPull((await json<{ run: string }>("/api/models/pull", { json: { source: wanted } })).run);
    }
    await refresh();
  };
  return (
    <FormDialog title={t("models.add")} does={t("models.add")} onSend={add} onClose={onClose}>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={256} />
      </label>
      <label>
        <span>{t("models.source")}</span>
        <input name="source" required placeholder="hf://ORG/REPO/FILE" />
        <small class="soft">{t("models.sourceNote")}</small>
      </label>
      <label class="check">
        <input type="checkbox" name="pull" /> {t("models.pull")}
      </label>
    </FormDialog>
  );
}
