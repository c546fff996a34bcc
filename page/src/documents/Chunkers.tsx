// One text, split by up to three chunkers side by side, and the groups of a store: its files split by further chunkers.

import { useState } from "preact/hooks";
import { json, part, rows, send } from "../api";
import { count, placeLabel } from "../format";
import { soft, Table } from "../parts/Table";
import { FormDialog, Trouble, useLoaded, useWatched, useWork } from "../parts/ui";
import { go, link } from "../route";
import { status } from "../status";
import type { Chunker, ChunkGroup, Cut, Store, StoreFile } from "../types";
import { t } from "../words/words";

const MAX_FILES = 1_000;
const MAX_CHUNKS = 200;
/** The initial choices. The third column is empty until the user chooses a chunker. */
const FIRST = ["auto", "sentence", ""] as const;

interface Given {
  store: Store;
  /** The document to split, or an empty string for pasted text. */
  file: string;
}

export function View({ store, file }: Given) {
  const chunkers = useLoaded(() => rows<Chunker>("/api/chunkers"), "chunkers");
  const base = `/api/stores/${part(store.id)}`;
  const files = useLoaded(() => rows<StoreFile>(`${base}/files?limit=${MAX_FILES}`), base);
  const [cuts, setCuts] = useState<Cut[] | null>(null);
  const [chosen, setChosen] = useState<Cut | null>(null);
  const [made, setMade] = useState(0);
  const [busy, error, work] = useWork();
  const opened = files.value?.find((each) => each.id === file);
  const compare = (form: FormData) =>
    work(async () => {
      const strategies = FIRST.flatMap((_, number) => strategyOf(form, number) ?? []);
      if (!opened) {
        setCuts(
          await rows<Cut>("/api/chunk", {
            json: { text: String(form.get("text")), strategies, limit: MAX_CHUNKS },
          }),
        );
        return;
      }
      const content = await (await send(`/v1/files/${part(opened.id)}/content`)).blob();
      const body = new FormData();
      body.append("strategies", JSON.stringify(strategies));
      body.append("limit", String(MAX_CHUNKS));
      body.append("file", content, opened.filename);
      setCuts(await rows<Cut>("/api/chunk", { body }));
    });
  return (
    <>
      <h1>{t("chunkers.title")}</h1>
      <p class="soft">{t("chunkers.note")}</p>
      <Trouble error={chunkers.error || files.error} retry={chunkers.error ? chunkers.retry : files.retry} />
      {chunkers.value && files.value && (
        <form
          class="fields"
          id="chunkform"
          onSubmit={(event) => {
            event.preventDefault();
            compare(new FormData(event.currentTarget));
          }}
        >
          <label>
            <span>{t("chunkers.document")}</span>
            <select
              name="document"
              value={opened?.id ?? ""}
              onChange={(event) => {
                setCuts(null);
                go(link("library", "documents", store.name, "chunkers", event.currentTarget.value));
              }}
            >
              <option value="">{t("chunkers.pasted")}</option>
              {files.value.map((each) => (
                <option key={each.id} value={each.id}>
                  {each.filename}
                </option>
              ))}
            </select>
          </label>
          {!opened && (
            <label>
              <span>{t("chunkers.text")}</span>
              <textarea name="text" rows={6} required />
            </label>
          )}
          <div class="columns">
            {FIRST.map((first, number) => (
              <Strategy key={first} number={number} first={first} known={chunkers.value ?? []} />
            ))}
          </div>
          <Trouble error={error} />
          <div class="actions">
            <button type="submit" class="primary" disabled={busy}>
              {t("chunkers.compare")}
            </button>
          </div>
        </form>
      )}
      {cuts && (
        <div class="columns" id="cuts">
          {cuts.map((cut, number) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: two columns may have the same result
            <CutView key={number} cut={cut} onUse={() => setChosen(cut)} />
          ))}
        </div>
      )}
      <Groups key={made} store={store} />
      {chosen && (
        <UseDialog
          cut={chosen}
          store={store}
          onClose={() => setChosen(null)}
          onMake={() => setMade(made + 1)}
        />
      )}
    </>
  );
}

/** Returns the strategy chosen in a column, or null. */
function strategyOf(form: FormData, number: number): Record<string, unknown> | null {
  const type = form.get(`type${number}`);
  if (!type) return null;
  const found: Record<string, unknown> = { type };
  for (const name of ["size", "overlap"]) {
    const given = form.get(`${name}${number}`);
    if (given) found[name] = Number(given);
  }
  const model = form.get(`model${number}`);
  return model ? { ...found, model } : found;
}

function Strategy({ number, first, known }: { number: number; first: string; known: Chunker[] }) {
  const [type, setType] = useState(first);
  const chunker = known.find((each) => each.name === type);
  return (
    <fieldset class="fields">
      <legend>{t("chunkers.column", { number: number + 1 })}</legend>
      <label>
        <span>{t("chunkers.way")}</span>
        <select name={`type${number}`} value={type} onChange={(event) => setType(event.currentTarget.value)}>
          {number > 0 && <option value="">{t("chunkers.nothing")}</option>}
          <option value="auto">auto</option>
          {known.map((each) => (
            <option key={each.name}>{each.name}</option>
          ))}
        </select>
        <small class="soft">{chunker?.description ?? (type === "auto" ? t("chunkers.auto") : "")}</small>
      </label>
      {chunker && (
        <>
          <label>
            <span>{t("chunkers.size")}</span>
            <input
              name={`size${number}`}
              type="number"
              min={50}
              max={20_000}
              placeholder={String(chunker.size)}
            />
          </label>
          <label>
            <span>{t("chunkers.overlap")}</span>
            <input name={`overlap${number}`} type="number" min={0} placeholder={String(chunker.overlap)} />
          </label>
          <label>
            <span>{t("chunkers.model")}</span>
            <select name={`model${number}`}>
              <option value="">{t("chunkers.noModel")}</option>
              {(status.value?.models ?? []).map((model) => (
                <option key={model.name}>{model.name}</option>
              ))}
            </select>
          </label>
        </>
      )}
    </fieldset>
  );
}

/** Formats a strategy on one line, such as `sentence · size 300 · overlap 30`. */
function written(strategy: Cut["strategy"]): string {
  const { type, ...more } = strategy;
  const given = Object.entries(more).filter(([, value]) => value !== null && value !== "");
  return [type, ...given.map(([name, value]) => `${name} ${String(value)}`)].join(" · ");
}

function CutView({ cut, onUse }: { cut: Cut; onUse: () => void }) {
  const name = written(cut.strategy);
  return (
    <section class="card cut" aria-label={name}>
      <h2>{name}</h2>
      <p class="soft">
        {t("files.chunks", { count: count(cut.total) })}
        {cut.total > 0 &&
          ` · ${t("chunkers.lengths", { shortest: count(cut.shortest), longest: count(cut.longest) })}`}
      </p>
      <button type="button" onClick={onUse}>
        {t("chunkers.use")}
      </button>
      {cut.chunks.length < cut.total && (
        <p class="soft">{t("chunkers.first", { count: count(cut.chunks.length) })}</p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <ol class="document chunks" tabIndex={0} aria-label={t("chunkers.chunksOf", { name })}>
        {cut.chunks.map((chunk, number) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: chunks have no other identity and keep their order
          <li key={number}>
            <p class="soft">
              {[placeLabel(chunk.place), t("chunkers.characters", { count: count(chunk.text.length) })]
                .filter(Boolean)
                .join(" · ")}
            </p>
            <pre>{chunk.text}</pre>
          </li>
        ))}
      </ol>
    </section>
  );
}

/** The form that adds a group: all files of the store, split by the chosen strategy. */
function UseDialog(props: { cut: Cut; store: Store; onClose: () => void; onMake: () => void }) {
  const { strategy } = props.cut;
  const path = `/api/stores/${part(props.store.id)}/groups`;
  const make = async (form: FormData) => {
    const body = { name: String(form.get("name")).trim(), chunking_strategy: strategy };
    await json(path, { json: body });
    props.onMake();
  };
  return (
    <FormDialog
      title={t("chunkers.useFor", { store: props.store.name })}
      does={t("create")}
      onSend={make}
      onClose={props.onClose}
    >
      <p>{written(strategy)}</p>
      <label>
        <span>{t("chunkers.group")}</span>
        <input
          name="name"
          required
          maxLength={64}
          pattern="[A-Za-z0-9_\-]+"
          defaultValue={String(strategy.type)}
        />
        <small class="soft">{t("chunkers.useNote")}</small>
      </label>
    </FormDialog>
  );
}

function Groups({ store }: { store: Store }) {
  const path = `/api/stores/${part(store.id)}/groups`;
  const found = useWatched(
    () => rows<ChunkGroup>(path),
    `${path} ${store.file_counts.total}`,
    (groups) => groups.some((group) => group.waiting),
  );
  const [busy, error, work] = useWork();
  const own = found.value?.[0]?.name;
  return (
    <>
      <h2>{t("chunkers.groups")}</h2>
      <Trouble error={error || found.error} retry={found.retry} />
      <Table
        label={t("chunkers.groups")}
        id="groups"
        rows={found.value ?? []}
        keyOf={(group) => group.name}
        columns={[
          {
            head: t("name"),
            cell: (group) => (
              <>
                {group.name}
                {group.errors.map(([name, reason]) => (
                  <p key={name} class="bad">
                    {name}: {reason}
                  </p>
                ))}
              </>
            ),
          },
          { head: t("chunkers.way"), class: soft, cell: (group) => written(group.chunking) },
          {
            head: t("stores.documents"),
            cell: (group) => (
              <>
                {group.waiting > 0 && (
                  <progress
                    max={group.completed + group.failed + group.waiting}
                    value={group.completed + group.failed}
                    aria-label={t("stores.indexing")}
                  />
                )}{" "}
                {count(group.completed)} / {count(group.completed + group.failed + group.waiting)}
              </>
            ),
          },
          { head: t("chunkers.chunks"), cell: (group) => count(group.chunks) },
          {
            head: t("actions"),
            quiet: true,
            cell: (group) =>
              group.name !== own && (
                <div class="actions">
                  {group.failed > 0 && (
                    <button
                      type="button"
                      disabled={busy}
                      onClick={() =>
                        work(async () => {
                          await json(`${path}/retry`, { method: "POST" });
                          found.reload();
                        })
                      }
                    >
                      {t("retry")}
                    </button>
                  )}
                  <button
                    type="button"
                    class="quiet"
                    disabled={busy}
                    aria-label={t("files.remove", { name: group.name })}
                    onClick={() =>
                      work(async () => {
                        await json(`${path}/${part(group.name)}`, { method: "DELETE" });
                        found.reload();
                      })
                    }
                  >
                    ✕
                  </button>
                </div>
              ),
          },
        ]}
      />
    </>
  );
}
