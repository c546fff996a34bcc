import { useEffect, useRef, useState } from "preact/hooks";
import { json, type ListPage, part, rows } from "../api";
import { SourcePanel } from "../chat/source";
import { bytes, count, duration, moment } from "../format";
import { IconButton } from "../parts/Icon";
import { Menu } from "../parts/Menu";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import {
  Confirm,
  Empty,
  FormDialog,
  Lazy,
  Skeleton,
  Trouble,
  useLoaded,
  usePages,
  useWork,
} from "../parts/ui";
import type { Passage } from "../passage";
import { useTrail } from "../places/trail";
import { go, link, route } from "../route";
import { ProgressCard } from "../run/ProgressCard";
import { refresh, status } from "../status";
import type { Store, StoreFile } from "../types";
import { t } from "../words/words";
import { PassageList } from "./PassageList";
import { add, again, dropped, forget, uploads } from "./upload";

const POLL_INTERVAL_MS = 2_000;
const FILES_AT_ONCE = 500;
const MAX_SCORES = 5;

export function DocumentsView() {
  const [, name = "", file = "", opened = ""] = route.value.rest;
  const stores = status.value?.stores ?? [];
  const store = stores.find((each) => each.name === name || each.id === name);
  return (
    <>
      {name ? (
        store ? (
          <StoreView key={store.id} store={store} file={file} opened={opened} />
        ) : (
          status.value && (
            <Empty title={t("stores.gone", { name })}>
              <a href={link("library", "documents")}>{t("stores.all")}</a>
            </Empty>
          )
        )
      ) : (
        <StoreList stores={stores} />
      )}
      <SourcePanel />
    </>
  );
}

const STORE_TOOLS = ["themes", "chunkers", "calibrate", "links", "review", "rights"] as const;

/** A store, or one of its tools, whose name takes the place of a file id in the address. */
function StoreView({ store, file, opened }: { store: Store; file: string; opened: string }) {
  const tool = STORE_TOOLS.find((name) => name === file);
  useTrail(
    { label: store.name, address: link("library", "documents", store.name) },
    ...(tool ? [{ label: t(`${tool}.title`) }] : []),
  );
  return (
    <>
      {file === "themes" && <Lazy name={file} load={() => import("./Themes")} given={{ store }} />}
      {file === "chunkers" && (
        <Lazy name={file} load={() => import("./Chunkers")} given={{ store, file: opened }} />
      )}
      {file === "calibrate" && (
        <Lazy name={file} load={() => import("./Calibrate")} given={{ store, run: opened }} />
      )}
      {file === "links" && <Lazy name={file} load={() => import("./Links")} given={{ store, run: opened }} />}
      {file === "review" && <Lazy name={file} load={() => import("./Review")} given={{ store }} />}
      {file === "rights" && <Lazy name={file} load={() => import("./Rights")} given={{ store }} />}
      {!tool && <StorePage store={store} file={file} />}
    </>
  );
}

function stateOf(store: Store): string {
  const files = store.file_counts;
  if (files.in_progress) return t("stores.indexing");
  if (files.failed && !files.completed) return t("stores.failed");
  return files.completed ? t("stores.ready") : t("stores.empty");
}

function StoreList({ stores }: { stores: Store[] }) {
  const [making, setMaking] = useState(false);
  return (
    <>
      <div class="actions spread">
        <h1>{t("section.documents")}</h1>
        <button type="button" class="primary" onClick={() => setMaking(true)}>
          {t("stores.new")}
        </button>
      </div>
      {!status.value && <Skeleton />}
      {!stores.length && status.value && (
        <Empty title={t("stores.none")} icon="documents">
          <p class="soft">{t("stores.noneNote")}</p>
        </Empty>
      )}
      <ul class="cards" id="stores">
        {stores.map((store) => (
          <li key={store.id} class="card">
            <div class="actions spread">
              <a class="name" href={link("library", "documents", store.name)}>
                {store.name}
              </a>
              <span class={store.file_counts.failed ? "bad" : "soft"}>{stateOf(store)}</span>
            </div>
            <p class="soft">{storeNote(store)}</p>
            {store.problem && <p class="bad">{store.problem}</p>}
            <Skipped store={store} />
          </li>
        ))}
      </ul>
      {making && <NewStore onClose={() => setMaking(false)} />}
    </>
  );
}

function storeNote(store: Store): string {
  const files = store.file_counts;
  const followed = store.folder ?? (Array.isArray(store.source) ? store.source.join(", ") : store.source);
  return [
    t("stores.files", { done: count(files.completed), total: count(files.total) }),
    files.failed ? t("stores.failures", { count: files.failed }) : "",
    bytes(store.usage_bytes),
    followed ?? "",
  ]
    .filter(Boolean)
    .join(" · ");
}

/** The form that creates a store, and opens it. */
export function NewStore({ onClose }: { onClose: () => void }) {
  const make = async (form: FormData) => {
    const folder = String(form.get("folder")).trim();
    const made = await json<Store>("/api/stores", {
      json: { name: String(form.get("name")).trim(), app: true, ...(folder ? { folder } : {}) },
    });
    await refresh();
    go(link("library", "documents", made.name));
  };
  return (
    <FormDialog title={t("stores.new")} does={t("create")} onSend={make} onClose={onClose}>
      <label>
        <span>{t("name")}</span>
        <input name="name" required maxLength={64} />
      </label>
      <label>
        <span>{t("stores.folder")}</span>
        <input name="folder" placeholder="/srv/handbook" />
        <small class="soft">{t("stores.folderNote")}</small>
      </label>
    </FormDialog>
  );
}

/** The skipped files of a store by reason. Their names are loaded when the list is opened. */
function Skipped({ store }: { store: Store }) {
  const reasons = Object.entries(store.skipped).sort(([, one], [, other]) => other - one);
  const total = reasons.reduce((sum, [, number]) => sum + number, 0);
  const [opened, setOpened] = useState(false);
  if (!total) return null;
  const summary = reasons.map(([reason, number]) => `${count(number)} ${reason}`).join(", ");
  return (
    <details class="skipped" onToggle={(event) => setOpened(event.currentTarget.open)}>
      <summary>{t("stores.skipped", { count: count(total), reasons: summary })}</summary>
      {opened && <SkippedNames store={store} />}
    </details>
  );
}

function SkippedNames({ store }: { store: Store }) {
  const path = `/api/stores/${part(store.id)}/skipped`;
  const found = useLoaded(() => rows<{ name: string; reason: string }>(path), path);
  return (
    <>
      <Trouble error={found.error} retry={found.retry} />
      <ul>
        {found.value?.map((each) => (
          <li key={each.name}>
            {each.name} · {each.reason}
          </li>
        ))}
      </ul>
    </>
  );
}

function StorePage({ store, file }: { store: Store; file: string }) {
  const [dialog, setDialog] = useState<"" | "plan" | "reindex" | "remove">("");
  const [rebuild, setRebuild] = useState("");
  const [busy, error, work] = useWork();
  const close = () => setDialog("");
  const follows = Boolean(store.folder || store.source);
  const path = `/api/stores/${part(store.id)}`;
  const counts = JSON.stringify(store.file_counts);
  const files = useRemaining(
    usePages(
      (after) => json<ListPage<StoreFile>>(`${path}/files?limit=${FILES_AT_ONCE}${after}`),
      path,
      counts,
      store.file_counts.in_progress || uploads.value.length ? POLL_INTERVAL_MS : 0,
    ),
  );
  const opened = files.value?.find((each) => each.id === file);
  const { next } = files;
  const known = files.value?.length ?? 0;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the file may be in the next page
  useEffect(() => {
    if (file && !opened) next?.();
  }, [file, known]);
  return (
    <>
      <div class="actions spread">
        <h1>{store.name}</h1>
        <span class="actions">
          {follows && (
            <button
              type="button"
              disabled={busy}
              onClick={() => work(() => json(`${path}/sync`, { method: "POST" }))}
            >
              {t("stores.sync")}
            </button>
          )}
          <Menu name={store.name}>
            {STORE_TOOLS.map(
              (tool) =>
                (store.embedding_model || tool !== "calibrate") && (
                  <a key={tool} href={link("library", "documents", store.name, tool)}>
                    {t(`${tool}.title`)}
                  </a>
                ),
            )}
            {follows && (
              <button type="button" onClick={() => setDialog("plan")}>
                {t("stores.plan")}
              </button>
            )}
            <button type="button" onClick={() => setDialog("reindex")}>
              {t("stores.reindex")}
            </button>
            <button type="button" class="danger" onClick={() => setDialog("remove")}>
              {t("delete")}
            </button>
          </Menu>
        </span>
      </div>
      <p class="soft">
        {stateOf(store)} · {storeNote(store)} · {store.embedding_model}
      </p>
      {store.problem && <p class="bad">{store.problem}</p>}
      {store.has_review && (
        <p>
          <a href={link("library", "documents", store.name, "review")}>{t("review.pending")}</a>
        </p>
      )}
      <Skipped store={store} />
      <Trouble error={error} />
      {rebuild && (
        <ProgressCard
          key={rebuild}
          run={rebuild}
          label={t("stores.reindex")}
          done={t("stores.reindexed")}
          onEnd={refresh}
        />
      )}
      <Uploads store={store} onSent={files.reload} />
      <SearchBox store={store} />
      <h2>{t("stores.documents")}</h2>
      <Trouble error={files.error} retry={files.retry} />
      {files.value && <FileTable store={store} files={files.value} next={next} onChange={files.reload} />}
      {opened && <Lazy name="pieces" load={() => import("./Pieces")} given={{ store, file: opened }} />}
      {dialog === "plan" && (
        <Lazy name="plan" load={() => import("./SyncPlan")} given={{ store, onClose: close }} />
      )}
      {dialog === "reindex" && (
        <FormDialog
          title={t("stores.reindexOf", { name: store.name })}
          does={t("stores.reindex")}
          onSend={async (form) => {
            const files = form.get("files") === "on";
            setRebuild((await json<{ run: string }>(`${path}/reindex`, { json: { files } })).run);
          }}
          onClose={close}
        >
          <p class="soft">{t("stores.reindexNote")}</p>
          <label class="check">
            <input type="checkbox" name="files" /> {t("stores.reindexFiles")}
          </label>
        </FormDialog>
      )}
      {dialog === "remove" && (
        <Confirm
          title={t("stores.delete", { name: store.name })}
          does={t("delete")}
          onClose={close}
          onYes={() =>
            work(async () => {
              await json(path, { method: "DELETE" });
              go(link("library", "documents"));
              await refresh();
            })
          }
        />
      )}
    </>
  );
}

function Uploads({ store, onSent }: { store: Store; onSent: () => void }) {
  const files = useRef<HTMLInputElement>(null);
  const folder = useRef<HTMLInputElement>(null);
  const mine = uploads.value.filter((each) => each.store === store.id);
  const take = (input: HTMLInputElement) => {
    const given = [...(input.files ?? [])];
    add(
      store.id,
      given.map((file) => ({ file, name: file.webkitRelativePath || file.name })),
    );
    input.value = "";
    onSent();
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the buttons inside do the same
    <div
      class="drop"
      onDragOver={(event) => event.preventDefault()}
      onDrop={async (event) => {
        event.preventDefault();
        if (event.dataTransfer) add(store.id, await dropped(event.dataTransfer));
        onSent();
      }}
    >
      <div class="actions">
        <span class="soft grow">{t("upload.drop")}</span>
        <button type="button" onClick={() => files.current?.click()}>
          {t("upload.files")}
        </button>
        <button type="button" onClick={() => folder.current?.click()}>
          {t("upload.folder")}
        </button>
      </div>
      <input
        ref={files}
        id="upload"
        type="file"
        multiple
        hidden
        aria-label={t("upload.files")}
        onChange={(event) => take(event.currentTarget)}
      />
      <input
        ref={folder}
        type="file"
        multiple
        hidden
        aria-label={t("upload.folder")}
        {...{ webkitdirectory: true }}
        onChange={(event) => take(event.currentTarget)}
      />
      <ul class="uploads" aria-live="polite">
        {mine.map((each) => (
          <li key={each.id}>
            <span class="name">{each.name}</span>
            {each.state === "failed" ? (
              <>
                <span class="bad">{each.error}</span>
                <button type="button" onClick={() => again(each.id)}>
                  {t("retry")}
                </button>
                <button type="button" class="quiet" onClick={() => forget(each.id)}>
                  {t("dismiss")}
                </button>
              </>
            ) : each.state === "sent" ? (
              <span class="soft">{t("upload.sent")}</span>
            ) : (
              <progress max={1} value={each.done} aria-label={each.name} />
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}

function FileTable(props: {
  store: Store;
  files: StoreFile[];
  next: (() => void) | undefined;
  onChange: () => void;
}) {
  const [busy, error, work] = useWork();
  const { files } = props;
  const base = `/v1/vector_stores/${part(props.store.id)}/files`;
  const readAgain = (file: StoreFile) =>
    work(async () => {
      await json(`${base}/${part(file.id)}`, { method: "DELETE" });
      await json(base, { json: { file_id: file.id } });
      props.onChange();
    });
  const remove = (file: StoreFile) =>
    removeLater({
      id: file.id,
      label: t("files.removed", { name: file.filename }),
      send: async () => {
        await json(`${base}/${part(file.id)}`, { method: "DELETE" });
        await refresh();
        props.onChange();
      },
    });
  if (!files.length) {
    return (
      <Empty title={t("files.none")}>
        <p class="soft">{t("files.noneNote")}</p>
      </Empty>
    );
  }
  return (
    <>
      <Trouble error={error} />
      <Table
        label={t("stores.documents")}
        id="filetable"
        rows={files}
        next={props.next}
        keyOf={(file) => file.id}
        text={(file) => file.filename}
        columns={[
          {
            head: t("files.name"),
            cell: (file) => (
              <>
                <a href={link("library", "documents", props.store.name, file.id)}>{file.filename}</a>
                {file.error && <p class="bad">{file.error}</p>}
              </>
            ),
          },
          {
            head: t("files.state"),
            class: (file) => (file.status === "failed" ? "bad" : "soft"),
            cell: (file) => t(`file.${file.status}`),
          },
          { head: t("files.size"), class: soft, cell: (file) => bytes(file.bytes) },
          { head: t("files.came"), class: soft, cell: (file) => moment(file.created_at) },
          {
            head: t("actions"),
            quiet: true,
            cell: (file) => (
              <div class="actions">
                {file.status === "failed" && (
                  <button type="button" disabled={busy} onClick={() => readAgain(file)}>
                    {t("retry")}
                  </button>
                )}
                <IconButton
                  icon="remove"
                  label={t("files.remove", { name: file.filename })}
                  disabled={busy}
                  onClick={() => remove(file)}
                />
              </div>
            ),
          },
        ]}
      />
    </>
  );
}

interface Stage {
  name: string;
  milliseconds: number;
  candidates: [number, number][];
  note: string;
}

/** Maximum number of follow-up searches for information that the passages lack. */
const STEPS = ["off", "auto", 2, 3, 4] as const;

/** Passages that answer a question, with the trace of the search. */
function SearchBox({ store }: { store: Store }) {
  const [found, setFound] = useState<{ data: Passage[]; trace: Stage[] } | null>(null);
  const [busy, error, work] = useWork();
  const steps = String(store.search.steps ?? "off");
  const keepSteps = (chosen: string) =>
    work(async () => {
      const wanted = STEPS.find((each) => String(each) === chosen);
      await json(`/api/stores/${part(store.id)}`, {
        method: "PATCH",
        json: { search: { ...store.search, steps: wanted } },
      });
      await refresh();
    });
  return (
    <section class="search">
      <form
        class="line"
        id="storesearch"
        onSubmit={(event) => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          const query = String(form.get("query")).trim();
          if (!query) return;
          const follow = store.links ? { links: form.get("links") === "on" } : {};
          work(async () => {
            setFound(
              await json(`/api/stores/${part(store.id)}/search`, {
                json: {
                  query,
                  max_num_results: 10,
                  trace: true,
                  steps: store.search.steps ?? "off",
                  ...follow,
                },
              }),
            );
          });
        }}
      >
        <input name="query" type="search" placeholder={t("search.ask")} aria-label={t("search.ask")} />
        <button type="submit" disabled={busy}>
          {t("search")}
        </button>
        <label class="check">
          {t("steps.label")}
          <select
            name="steps"
            disabled={busy}
            value={steps}
            onChange={(event) => keepSteps(event.currentTarget.value)}
          >
            {STEPS.map((each) => (
              <option key={each} value={String(each)}>
                {typeof each === "number" ? t("steps.most", { count: each }) : t(`steps.${each}`)}
              </option>
            ))}
          </select>
        </label>
        {store.links && (
          <label class="check">
            <input type="checkbox" name="links" defaultChecked /> {t("links.follow")}
          </label>
        )}
      </form>
      <Trouble error={error} />
      {found && !found.data.length && <p class="soft">{t("search.none")}</p>}
      <PassageList passages={found?.data ?? []} />
      {found && found.trace.length > 0 && <Trace stages={found.trace} />}
    </section>
  );
}

function Trace({ stages }: { stages: Stage[] }) {
  return (
    <details class="aside">
      <summary>{t("search.trace")}</summary>
      <Table
        label={t("search.trace")}
        rows={stages}
        keyOf={(stage) => stage.name}
        columns={[
          { head: t("search.stage"), cell: (stage) => stage.name },
          { head: t("search.time"), cell: (stage) => duration(stage.milliseconds) },
          { head: t("search.candidates"), cell: (stage) => stage.candidates.length || "" },
          { head: t("search.scores"), class: soft, cell: bestOf },
          { head: t("search.note"), class: soft, cell: (stage) => stage.note },
        ]}
      />
    </details>
  );
}

function bestOf(stage: Stage): string {
  return stage.candidates
    .slice(0, MAX_SCORES)
    .map(([chunk, score]) => `${chunk}: ${score.toFixed(3)}`)
    .join(", ");
}
