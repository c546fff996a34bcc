// The editor for specifications in YAML. The daemon checks the text as the user types; the user can compare and deploy
// it.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, json, part, rows, sentence } from "../api";
import { recall, remember } from "../kept";
import type { Editor, read as Reader } from "../parts/editor";
import type { JsonSchema } from "../parts/jsonSchema";
import { Trouble, useLoaded, useWork } from "../parts/ui";
import type { Fault } from "../parts/yaml";
import { useTrail } from "../places/trail";
import { go, link } from "../route";
import { apps, refresh, status } from "../status";
import type { App, AppVersion } from "../types";
import { t } from "../words/words";

type Kind = "flow" | "agent";
type Library = typeof import("../parts/editor");

const KINDS: Kind[] = ["flow", "agent"];

const EXAMPLES: Record<Kind, Record<string, unknown>> = {
  flow: {
    portico_flow: 1,
    input_schema: { type: "string" },
    step: { op: "llm", model: "default", system: "Answer in one sentence." },
  },
  agent: { portico_agent: 1, model: "default", instructions: "Answer in one sentence.", tools: [] },
};

/** Text that is not deployed yet. `base` is the version it started from, 0 for a new app. */
interface Draft {
  name: string;
  kind: Kind;
  text: string;
  note: string;
  base: number;
}

interface Opened {
  library: Library;
  schemas: Record<Kind, JsonSchema>;
  kind: Kind;
  current: AppVersion | undefined;
}

const load = () => import("../parts/editor");

function useOpened(name: string) {
  return useLoaded<Opened>(async () => {
    const path = `/api/apps/${part(name)}`;
    const [library, flow, agent] = await Promise.all([
      load(),
      json<JsonSchema>("/api/schemas/flow"),
      json<JsonSchema>("/api/schemas/agent"),
    ]);
    const schemas = { flow, agent };
    if (!name) return { library, schemas, kind: "flow", current: undefined };
    const [app, versions] = await Promise.all([json<App>(path), rows<AppVersion>(`${path}/versions`)]);
    return {
      library,
      schemas,
      kind: app.kind === "agent" ? "agent" : "flow",
      current: versions.find((version) => version.current),
    };
  }, name);
}

/** The editor for a deployed app, or for a new app if `name` is empty. */
export function AppEditor({ name }: { name: string }) {
  const opened = useOpened(name);
  useTrail(...(name ? [{ label: name, address: link("library", "apps", name) }] : []), {
    label: name ? t("edit") : t("apps.new"),
  });
  return (
    <>
      <h1>{name ? t("editor.edit", { name }) : t("apps.new")}</h1>
      <Trouble error={opened.error} retry={opened.retry} />
      {opened.value && <EditorForm name={name} opened={opened.value} />}
    </>
  );
}

function stored(place: string): Draft | null {
  try {
    return JSON.parse(recall(place)) as Draft;
  } catch {
    return null;
  }
}

function EditorForm({ name, opened }: { name: string; opened: Opened }) {
  const { library, schemas, current } = opened;
  const place = `app.${name}`;
  const fresh = (kind: Kind): Draft => ({
    name,
    kind,
    text: library.write(current?.spec ?? EXAMPLES[kind]),
    note: "",
    base: current?.version ?? 0,
  });
  const [draft, setDraft] = useState<Draft>(() => stored(place) ?? fresh(opened.kind));
  const [isKept, setKept] = useState(() => Boolean(recall(place)));
  const [faults, setFaults] = useState<Fault[] | null>(null);
  const [unchecked, setUnchecked] = useState("");
  const [isCompared, setCompared] = useState(false);
  const [isUnserved, setUnserved] = useState(false);
  const [busy, error, work] = useWork();
  const latest = useRef(draft);
  const editor = useRef<Editor | null>(null);

  const change = (changed: Partial<Draft>) => {
    latest.current = { ...latest.current, ...changed };
    setDraft(latest.current);
    const { kind, text, note } = latest.current;
    const isChanged = text !== fresh(kind).text || note !== "" || latest.current.name !== name;
    remember(place, isChanged ? JSON.stringify(latest.current) : "");
  };
  const check = async (text: string): Promise<Fault[]> => {
    const found = await faultsIn(library.read, text, latest.current);
    if (latest.current.text === text) setFaults(found);
    setUnchecked("");
    return found;
  };
  const checkQuietly = async (text: string): Promise<Fault[]> => {
    try {
      return await check(text);
    } catch (caught) {
      setFaults(null);
      setUnchecked(sentence(caught));
      return [];
    }
  };
  const suggest = (text: string, at: number) =>
    library.suggestionsAt(schemas[latest.current.kind], text, at, namesHere());
  const startAgain = () => {
    const begun = fresh(latest.current.kind);
    change(begun);
    editor.current?.replace(begun.text);
    setKept(false);
    setCompared(false);
  };
  const deploy = () =>
    work(async () => {
      const { kind, text, note, base } = latest.current;
      const called = latest.current.name.trim();
      if (!called) throw new Error(t("editor.noName"));
      if (!name && apps.value.some((app) => app.name === called && app.version > 0)) {
        throw new Error(t("editor.exists", { name: called }));
      }
      const [first] = await check(text);
      if (first) return editor.current?.jump(first.from);
      const spec = library.read(text, "").value;
      const body = { name: called, kind, spec, note, ...(base ? { expected_version: base } : {}) };
      try {
        await json("/api/apps", { json: { ...body, serve_later: isUnserved } });
      } catch (caught) {
        if (caught instanceof ApiError && caught.code === "not_served") setUnserved(true);
        throw caught;
      }
      remember(place, "");
      await refresh();
      go(link("library", "apps", called));
    });

  return (
    <form
      class="fields"
      onSubmit={(event) => {
        event.preventDefault();
        deploy();
      }}
    >
      {isKept && <p class="soft">{t("editor.kept")}</p>}
      {current && current.version !== draft.base && (
        <p class="trouble" role="alert">
          <span>{t("editor.newer", { now: current.version, before: draft.base })}</span>
          <button
            type="button"
            onClick={() => {
              change({ base: current.version });
              setCompared(true);
            }}
          >
            {t("editor.goOn", { now: current.version })}
          </button>
        </p>
      )}
      <div class="columns">
        {!name && (
          <>
            <label>
              <span>{t("name")}</span>
              <input
                name="name"
                maxLength={64}
                value={draft.name}
                onInput={(event) => change({ name: event.currentTarget.value })}
              />
            </label>
            <label>
              <span>{t("editor.kind")}</span>
              <select
                name="kind"
                value={draft.kind}
                onChange={(event) => {
                  const kind = event.currentTarget.value as Kind;
                  const isUntouched = draft.text === fresh(draft.kind).text;
                  change({ kind });
                  if (isUntouched) editor.current?.replace(fresh(kind).text);
                  editor.current?.recheck();
                }}
              >
                {KINDS.map((kind) => (
                  <option key={kind} value={kind}>
                    {t(`editor.${kind}`)}
                  </option>
                ))}
              </select>
            </label>
          </>
        )}
        <label>
          <span>{t("search.note")}</span>
          <input
            name="note"
            maxLength={500}
            value={draft.note}
            onInput={(event) => change({ note: event.currentTarget.value })}
          />
        </label>
      </div>
      <div>
        <Surface
          library={library}
          label={t("editor.label")}
          text={draft.text}
          original={isCompared ? fresh(draft.kind).text : null}
          editor={editor}
          onChange={(text) => change({ text })}
          check={checkQuietly}
          suggest={suggest}
        />
        <p class="soft">{t("editor.note")}</p>
      </div>
      <div role="status">
        {faults?.length === 0 && <p class="good">{t("editor.sound")}</p>}
        <ul class="faults" id="faults">
          {faults?.map((fault) => (
            <li key={`${fault.from} ${fault.message}`}>
              <button type="button" class="link" onClick={() => editor.current?.jump(fault.from)}>
                {t("editor.place", { line: fault.line, column: fault.column })}
              </button>{" "}
              <span class="bad">{fault.message}</span>
            </li>
          ))}
        </ul>
      </div>
      <Trouble error={error} />
      <Trouble error={unchecked} retry={() => editor.current?.recheck()} />
      {isUnserved && <p class="soft">{t("editor.unserved")}</p>}
      <div class="actions">
        <button type="button" class="danger" disabled={busy} onClick={startAgain}>
          {t("editor.startAgain")}
        </button>
        {current && (
          <button type="button" aria-pressed={isCompared} onClick={() => setCompared(!isCompared)}>
            {t("editor.compare", { version: current.version })}
          </button>
        )}
        <button type="submit" class="primary" disabled={busy}>
          {isUnserved ? t("editor.deployAnyway") : t("apps.deploy")}
        </button>
      </div>
    </form>
  );
}

/** Returns the names on this daemon for the fields of a specification that refer to a name. */
function namesHere(): Record<string, string[]> {
  const models = (status.value?.models ?? []).flatMap((model) => [model.name, ...model.aliases]);
  const stores = (status.value?.stores ?? []).map((store) => store.name);
  const named = (kind: string) => apps.value.filter((app) => app.kind === kind).map((app) => app.name);
  return {
    model: models,
    store: stores,
    stores,
    app: named("flow"),
    agent: named("agent"),
    agents: named("agent"),
  };
}

/** Returns the syntax errors of the text, or else the first error that the daemon reports. */
async function faultsIn(read: typeof Reader, text: string, { kind, name }: Draft): Promise<Fault[]> {
  const found = read(text, t("editor.noMapping"));
  if (found.faults.length) return found.faults;
  const spec = { ...found.value, ...(name.trim() ? { name: name.trim() } : {}) };
  type Checked = { error: { message: string; param?: string } | null };
  const { error } =
    kind === "flow"
      ? await json<Checked>("/api/flows/check", { json: { flow: spec } })
      : await json<Checked>("/api/agents/check", { json: { agent: spec } });
  return error ? [found.faultAt(error.param ?? "", error.message)] : [];
}

/** The element that contains an open editor. */
function Surface(props: {
  library: Library;
  label: string;
  text: string;
  original: string | null;
  editor?: { current: Editor | null };
  onChange?: (text: string) => void;
  check?: (text: string) => Promise<Fault[]>;
  suggest?: (text: string, at: number) => ReturnType<Library["suggestionsAt"]>;
}) {
  const place = useRef<HTMLDivElement>(null);
  const own = useRef<Editor | null>(null);
  const held = props.editor ?? own;
  const now = useRef(props);
  now.current = props;
  // biome-ignore lint/correctness/useExhaustiveDependencies: opened once; callbacks are looked up when they are called
  useEffect(() => {
    if (!place.current) return;
    const { library, label, text, onChange, check, suggest } = now.current;
    const opened = library.openEditor(place.current, {
      text,
      label,
      unchanged: t("editor.unchanged"),
      ...(onChange ? { onChange: (changed) => now.current.onChange?.(changed) } : {}),
      ...(check ? { check: async (asked) => (await now.current.check?.(asked)) ?? [] } : {}),
      ...(suggest
        ? { suggest: (asked, at) => now.current.suggest?.(asked, at) ?? { from: at, given: [] } }
        : {}),
    });
    held.current = opened;
    return () => opened.close();
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the editor stays the same while it is mounted
  useEffect(() => held.current?.compare(props.original), [props.original]);
  return <div class="editor" ref={place} />;
}

/** A specification as YAML. With an `original`, the differences are marked. */
export function SpecText(props: { label: string; spec: unknown; original?: unknown }) {
  const library = useLoaded(load, "");
  return (
    <>
      <Trouble error={library.error} retry={library.retry} />
      {library.value && (
        <div id="spec">
          <Surface
            library={library.value}
            label={props.label}
            text={library.value.write(props.spec)}
            original={props.original === undefined ? null : library.value.write(props.original)}
          />
        </div>
      )}
    </>
  );
}
