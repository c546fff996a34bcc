import { useEffect, useState } from "preact/hooks";
import { followRun, json, part, rows, send } from "../api";
import { QuestionView } from "../chat/AnswerView";
import { withQuestionEvent } from "../chat/answer";
import { callSnippet, moment } from "../format";
import { Menu } from "../parts/Menu";
import { SchemaForm } from "../parts/SchemaForm";
import { soft, Table } from "../parts/Table";
import {
  Confirm,
  Copy,
  Dialog,
  Empty,
  FormDialog,
  Lazy,
  type Loaded,
  pretty,
  Trouble,
  useLoaded,
  useWork,
} from "../parts/ui";
import { NEW_APP } from "../places/places";
import { go, link, route } from "../route";
import { APP_LIMITS, Limits, readLimits, writeLimits } from "../run/Limits";
import { RunDiagram } from "../run/RunDiagram";
import { type AppKind, apps, refresh, status } from "../status";
import type { App, AppVersion, QuestionDescription, TraceStep } from "../types";
import { t } from "../words/words";
import { AppEditor, SpecText } from "./Editor";

/** The apps, the improvements of one of them, or the editor of an app or of a new app. */
export function Apps() {
  const [section, name = "", what, id = ""] = route.value.rest;
  if (what === "improvements")
    return <Lazy name={what} load={() => import("./Improvements")} given={{ name, id }} />;
  const isEdited = section === NEW_APP || what === "edit";
  return isEdited ? <AppEditor key={name} name={name} /> : <AppList />;
}

function AppList() {
  const opened = apps.value.find((app) => app.name === route.value.rest[1]);
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.apps")}</h1>
        <button type="button" class="primary" onClick={() => go(link("library", NEW_APP))}>
          {t("apps.new")}
        </button>
      </div>
      {!apps.value.length && status.value && (
        <Empty title={t("apps.none")}>
          <p class="soft">{t("apps.noneNote")}</p>
        </Empty>
      )}
      <ul class="cards" id="apps">
        {apps.value.map((app) => (
          <AppCard key={app.name} app={app} />
        ))}
      </ul>
      {opened && <AppDialog key={opened.name} app={opened} />}
    </>
  );
}

function AppCard({ app }: { app: App }) {
  return (
    <li class="card">
      <div class="actions spread">
        <a class="name" href={link("library", "apps", app.name)}>
          {app.title || app.name}
        </a>
        <span class="soft">
          {t(`kind.${app.kind as AppKind}`)} {app.version ? `v${app.version}` : ""}
        </span>
      </div>
      {app.description && <p class="soft">{app.description}</p>}
    </li>
  );
}

/** One app: its form, its diagram, and the versions of a deployed app if the key may read them. */
function AppDialog({ app }: { app: App }) {
  const path = `/api/apps/${part(app.name)}/versions`;
  const versions = useLoaded(async () => (app.version ? rows<AppVersion>(path) : []), path);
  const reads = !versions.denied; // a key that may only call an app cannot read its specification
  const code = callSnippet(app.name);
  return (
    <Dialog title={app.title || app.name} onClose={() => go(link("library", "apps"))} side>
      <div class="sections">
        {app.description && <p class="soft">{app.description}</p>}
        {app.kind === "flow" ? <RunForm app={app} /> : <p class="soft">{t("apps.chats")}</p>}
        {app.version > 0 && <Diagram name={app.name} />}
        {app.version > 0 && reads && <Versions app={app} found={versions} />}
        <details class="aside" id="code">
          <summary>{t("apps.code")}</summary>
          <pre>{code}</pre>
          <Copy text={code} />
        </details>
        {reads && versions.value && <PackageCommand name={app.name} />}
      </div>
    </Dialog>
  );
}

/** Quotes a word for a shell. */
export function quoted(word: string): string {
  return /^[\w.-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The command that packages an app. A package is a set of files, so a command has to write it. */
function PackageCommand({ name }: { name: string }) {
  const command = `portico package ${quoted(name)} --image -o ${quoted(`${name}.zip`)}`;
  return (
    <details class="aside" id="package">
      <summary>{t("apps.package")}</summary>
      <p class="soft">{t("apps.packageNote")}</p>
      <pre>{command}</pre>
      <Copy text={command} />
    </details>
  );
}

type RunEvent = { type: string; result?: unknown; error?: { message: string } };

function RunForm({ app }: { app: App }) {
  const [run, setRun] = useState("");
  const [done, setDone] = useState<{ output: unknown } | null>(null);
  const [questions, setQuestions] = useState<QuestionDescription[]>([]);
  const [leaving] = useState(() => new AbortController());
  useEffect(() => () => leaving.abort(), [leaving]);
  const [busy, error, work] = useWork();
  const path = `/api/runs/${part(run)}/trace`;
  const trace = useLoaded(
    async () => (run ? (await json<{ steps: TraceStep[] }>(path)).steps : []),
    `${run} ${busy}`,
  );
  const input = (given: unknown) =>
    work(async () => {
      setDone(null);
      setQuestions([]);
      const path = `/api/apps/${part(app.name)}/run?keep=true`;
      const asked = await send(path, { json: { input: given }, signal: leaving.signal });
      const begun = asked.headers.get("x-portico-run") ?? "";
      asked.body?.cancel(); // the run is followed instead, and continues to be while the page is hidden
      setRun(begun);
      for await (const event of followRun<RunEvent>(begun, leaving.signal)) {
        setQuestions((open) => withQuestionEvent(open, event));
        if (event.type === "finished") setDone({ output: event.result ?? null });
        if (event.type === "failed") throw new Error(event.error?.message ?? t("runs.failed"));
      }
    });
  return (
    <>
      <SchemaForm schema={app.input_schema} send={busy ? t("apps.running") : t("apps.run")} onSend={input} />
      <Trouble error={error} />
      {busy && questions.map((question) => <QuestionView key={question.id} question={question} />)}
      {run && (
        <RunDiagram
          key={run}
          run={run}
          name={app.name}
          trace={trace.value ?? []}
          isEnded={!busy}
          onOpen={(step) => go(link("run", "runs", run, step))}
          onEnd={trace.reload}
        />
      )}
      {done && <pre id="output">{pretty(done.output)}</pre>}
      {run && <a href={link("run", "runs", run)}>{t("runs.steps")}</a>}
    </>
  );
}

/** The diagram of an app, shown as an image so that nothing in the names of its steps can execute. */
function Diagram({ name }: { name: string }) {
  const path = `/api/apps/${part(name)}/drawing?format=svg`;
  const drawing = useLoaded(async () => URL.createObjectURL(await (await send(path)).blob()), path);
  const url = drawing.value;
  useEffect(() => () => URL.revokeObjectURL(url ?? ""), [url]);
  return (
    <>
      <h2>{t("apps.diagram")}</h2>
      <Trouble error={drawing.error} retry={drawing.retry} />
      {url && <img class="diagram" src={url} alt={t("apps.diagramOf", { name })} />}
    </>
  );
}

function Versions({ app, found }: { app: App; found: Loaded<AppVersion[]> }) {
  const { name } = app;
  const limits = app.limits ?? {};
  const path = `/api/apps/${part(name)}`;
  const [shown, setShown] = useState<AppVersion | null>(null);
  const before = found.value?.find((each) => each.version === (shown?.version ?? 0) - 1);
  const [opened, setOpened] = useState<"" | "limits" | "remove">("");
  const [busy, error, work] = useWork();
  const rollBack = (version: number) =>
    work(async () => {
      await json(`${path}/rollback`, { json: { version } });
      found.reload();
      await refresh();
    });
  return (
    <>
      <h2>{t("apps.versions")}</h2>
      <Trouble error={found.error || error} retry={found.retry} />
      <Table
        label={t("apps.versions")}
        id="versions"
        rows={found.value ?? []}
        keyOf={(version) => String(version.version)}
        columns={[
          { head: t("apps.version"), cell: (version) => `v${version.version}` },
          { head: t("runs.began"), class: soft, cell: (version) => moment(version.created_at) },
          { head: t("search.note"), class: soft, cell: (version) => version.note },
          {
            head: t("actions"),
            quiet: true,
            cell: (version) => (
              <div class="actions">
                <button type="button" class="quiet" onClick={() => setShown(version)}>
                  {t("apps.spec")}
                </button>
                {version.current ? (
                  <span class="good">{t("apps.current")}</span>
                ) : (
                  <button type="button" disabled={busy} onClick={() => rollBack(version.version)}>
                    {t("apps.rollBack")}
                  </button>
                )}
              </div>
            ),
          },
        ]}
      />
      {shown && (
        <>
          <h2>
            v{shown.version}{" "}
            {before && <span class="soft">{t("apps.differs", { before: before.version })}</span>}
          </h2>
          <SpecText
            key={shown.version}
            label={t("apps.spec")}
            spec={shown.spec}
            {...(before ? { original: before.spec } : {})}
          />
        </>
      )}
      <p class="soft">{writeLimits(limits)}</p>
      <div class="actions">
        <button type="button" onClick={() => go(link("library", "apps", name, "edit"))}>
          {t("edit")}
        </button>
        <Menu name={name}>
          <a href={link("library", "apps", name, "improvements")}>{t("apps.improvements")}</a>
          <button type="button" onClick={() => setOpened("limits")}>
            {t("keys.limits")}
          </button>
          <button type="button" class="danger" disabled={busy} onClick={() => setOpened("remove")}>
            {t("delete")}
          </button>
        </Menu>
      </div>
      {opened === "limits" && (
        <FormDialog
          title={t("apps.limits", { name })}
          does={t("save")}
          onSend={async (form) => {
            await json(path, { method: "PATCH", json: { limits: readLimits(form, APP_LIMITS) } });
            await refresh();
          }}
          onClose={() => setOpened("")}
        >
          <Limits names={APP_LIMITS} held={limits} note={t("apps.limitsNote")} />
        </FormDialog>
      )}
      {opened === "remove" && (
        <Confirm
          title={t("apps.delete", { name })}
          does={t("delete")}
          onClose={() => setOpened("")}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              await refresh();
              go(link("library", "apps"));
            })
          }
        />
      )}
    </>
  );
}
