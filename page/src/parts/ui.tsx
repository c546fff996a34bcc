// Components that all views use.

import type { ComponentChildren, FunctionComponent } from "preact";
import { useEffect, useId, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, key, type ListPage, part, sentence } from "../api";
import { locked } from "../status";
import { t } from "../words/words";
import { Blocks } from "./Blocks";
import { Icon, IconButton, type IconName } from "./Icon";
import { useWork } from "./work";

export { useWork };

const LINE_HEIGHT_PX = 24;
const WATCH_INTERVAL_MS = 2_000;

/** An error, with a way to retry. */
export function Trouble({ error, retry }: { error: string; retry?: (() => void) | undefined }) {
  if (!error) return null;
  return (
    <p class="trouble" role="alert">
      <span>{error}</span>
      {retry && (
        <button type="button" onClick={retry}>
          {t("retry")}
        </button>
      )}
    </p>
  );
}

/** The empty state of a view, with the next step. */
export function Empty(props: { title: string; icon?: IconName; children?: ComponentChildren }) {
  const { title, icon, children } = props;
  return (
    <div class="empty">
      {icon && <Icon name={icon} />}
      <h2>{title}</h2>
      {children}
    </div>
  );
}

/** The place of rows that are being loaded. */
export function Skeleton() {
  return (
    <div class="skeleton" aria-hidden="true">
      <span />
      <span />
      <span />
    </div>
  );
}

/** A modal dialog. Esc closes it, and the focus returns to the element that had it. */
export function Dialog(props: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  side?: boolean;
}) {
  const place = useRef<HTMLDialogElement>(null);
  const label = useId();
  // Runs before the dialog is painted, so that it receives a key pressed immediately.
  useLayoutEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    place.current?.showModal();
    // A dialog that is removed does not return the focus itself.
    return () => queueMicrotask(() => document.activeElement === document.body && before?.focus());
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Esc closes a dialog natively
    <dialog
      ref={place}
      class={props.side ? "panel" : ""}
      aria-labelledby={label}
      onClose={props.onClose}
      onCancel={(event) => {
        // The page removes the dialog immediately. If the browser closed it, its event could arrive after another
        // dialog opened.
        if (event.target !== place.current) return;
        event.preventDefault();
        props.onClose();
      }}
      onClick={(event) => event.target === place.current && props.onClose()}
    >
      <div class="inside">
        <header>
          <h2 id={label}>{props.title}</h2>
          <IconButton icon="close" label={t("close")} onClick={props.onClose} />
        </header>
        {props.children}
      </div>
    </dialog>
  );
}

/** A form in a dialog. It shows errors, and closes after the data was sent successfully. */
export function FormDialog(props: {
  title: string;
  does: string;
  /** Whether the form can be sent; true by default. */
  isReady?: boolean;
  onSend: (form: FormData) => Promise<unknown>;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const [busy, error, work] = useWork();
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <form
        class="fields"
        onSubmit={(event) => {
          event.preventDefault();
          const form = new FormData(event.currentTarget);
          work(async () => {
            await props.onSend(form);
            props.onClose();
          });
        }}
      >
        {props.children}
        <Trouble error={error} />
        <div class="actions">
          <button type="submit" class="primary" disabled={busy || props.isReady === false}>
            {props.does}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** A button that copies a text to the clipboard. */
export function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  return (
    <IconButton
      icon={done ? "copied" : "copy"}
      label={t(done ? "copied" : "copy")}
      onClick={async () => {
        await navigator.clipboard.writeText(text);
        setDone(true);
      }}
    />
  );
}

/** Downloads content as a file. */
export function saveAs(content: Blob, name: string): void {
  const anchor = document.createElement("a");
  anchor.href = URL.createObjectURL(content);
  anchor.download = name;
  anchor.click();
}

/** A secret that is shown once, with a button to copy it. */
export function ShownOnce(props: { id: string; note: string; secret: string; onClose: () => void }) {
  return (
    <>
      <p>{props.note}</p>
      <pre id={props.id}>{props.secret}</pre>
      <div class="actions">
        <Copy text={props.secret} />
        <button type="button" class="primary" onClick={props.onClose}>
          {t("close")}
        </button>
      </div>
    </>
  );
}

/** A confirmation before a destructive action. */
export function Confirm(props: { title: string; does: string; onYes: () => void; onClose: () => void }) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <div class="actions">
        <button type="button" onClick={props.onClose}>
          {t("cancel")}
        </button>
        <button
          type="button"
          class="danger"
          onClick={() => {
            props.onClose();
            props.onYes();
          }}
        >
          {props.does}
        </button>
      </div>
    </Dialog>
  );
}

/**
 * Loads data, and reloads it at an interval while the page is visible. `load` is called again when `about` or the key
 * changes, but not while the page is locked. `denied`: the key lacks the permission, so there are no reloads and no
 * `retry`.
 */
export function useLoaded<T>(load: () => Promise<T>, about: string, intervalMs = 0) {
  const [value, setValue] = useState<T | null>(null);
  const [error, setError] = useState("");
  const [denied, setDenied] = useState(false);
  const [round, setRound] = useState(0);
  const isLocked = locked.value;
  // biome-ignore lint/correctness/useExhaustiveDependencies: `about` identifies what `load` depends on
  useEffect(() => {
    if (isLocked) return;
    let gone = false;
    const timer = intervalMs ? setInterval(() => !document.hidden && look(), intervalMs) : 0;
    const look = async () => {
      try {
        const found = await load();
        if (gone) return;
        setValue(found);
        setError("");
        setDenied(false);
      } catch (caught) {
        if (gone) return;
        const isDenied = caught instanceof ApiError && caught.status === 403;
        if (isDenied) clearInterval(timer);
        setError(sentence(caught));
        setDenied(isDenied);
      }
    };
    look();
    return () => {
      gone = true;
      clearInterval(timer);
    };
  }, [about, round, intervalMs, isLocked, key.value]);
  const reload = () => setRound((before) => before + 1);
  return { value, error, denied, reload, retry: denied ? undefined : reload };
}

/** Loads data, and reloads it while `isChanging` is true of it. */
export function useWatched<T>(load: () => Promise<T>, about: string, isChanging: (value: T) => boolean) {
  const [intervalMs, setIntervalMs] = useState(0);
  return useLoaded(
    async () => {
      const value = await load();
      setIntervalMs(isChanging(value) ? WATCH_INTERVAL_MS : 0);
      return value;
    },
    about,
    intervalMs,
  );
}

/**
 * A paginated list, loaded up to the last call of `next`, which is set while there is more. Another `about` is another
 * list; another `version` reloads the same list. An unchanged row stays the same object.
 */
export function usePages<T extends { id: string }>(
  load: (after: string) => Promise<ListPage<T>>,
  about: string,
  version = "",
  intervalMs = 0,
) {
  const held = useRef({ about, rows: [] as T[], hasMore: true });
  const isNext = useRef(false);
  const found = useLoaded(
    async () => {
      if (held.current.about !== about) held.current = { about, rows: [], hasMore: true };
      const { current } = held;
      const before = current.rows;
      if (isNext.current && before.length) {
        isNext.current = false;
        const page = await load(afterLast(before));
        if (current.rows === before)
          Object.assign(current, { rows: [...before, ...page.data], hasMore: page.has_more });
        return current.rows;
      }
      let page = await load("");
      const rows = [...page.data];
      while (page.has_more && page.data.length && rows.length < current.rows.length) {
        page = await load(afterLast(rows));
        rows.push(...page.data);
      }
      Object.assign(current, { rows: keptRows(current.rows, rows), hasMore: page.has_more });
      return current.rows;
    },
    `${about} ${version}`,
    intervalMs,
  );
  const next = () => {
    isNext.current = true;
    found.reload();
  };
  return { ...found, next: held.current.hasMore && found.value?.length ? next : undefined };
}

function afterLast(rows: { id: string }[]): string {
  return `&after=${part(rows.at(-1)?.id ?? "")}`;
}

/** Returns the loaded rows. An unchanged row is the same object as before. */
function keptRows<T extends { id: string }>(before: T[], rows: T[]): T[] {
  const known = new Map(before.map((row) => [row.id, row]));
  return rows.map((row) => {
    const old = known.get(row.id);
    return old && JSON.stringify(old) === JSON.stringify(row) ? old : row;
  });
}

export type Loaded<T> = ReturnType<typeof useLoaded<T>>;

/** A loaded list: its error, its empty state, or its rows. */
export function Listing<T>(props: {
  found: Loaded<T[]>;
  none: string;
  note?: string;
  children: (rows: T[]) => ComponentChildren;
}) {
  const { value, error, retry } = props.found;
  return (
    <>
      <Trouble error={error} retry={retry} />
      {!value && !error && <Skeleton />}
      {value && !value.length && (
        <Empty title={props.none}>{props.note && <p class="soft">{props.note}</p>}</Empty>
      )}
      {value && value.length > 0 && props.children(value)}
    </>
  );
}

/** A list of cards below a title, with a button to add one. */
export function CardList<T>(props: {
  id: string;
  title: string;
  adds: string;
  found: Loaded<T[]>;
  none: string;
  note: string;
  onAdd: () => void;
  /** What the view shows between the title and the list. */
  intro?: ComponentChildren;
  children: (row: T) => ComponentChildren;
}) {
  return (
    <>
      <div class="actions spread">
        <h1>{props.title}</h1>
        {!props.found.denied && (
          <button type="button" class="primary" onClick={props.onAdd}>
            {props.adds}
          </button>
        )}
      </div>
      {props.intro}
      <Listing found={props.found} none={props.none} note={props.note}>
        {(listed) => (
          <ul class="cards" id={props.id}>
            {listed.map(props.children)}
          </ul>
        )}
      </Listing>
    </>
  );
}

/** A view whose code is loaded when it is first opened. */
export function Lazy<P extends object>(props: {
  name: string;
  load: () => Promise<{ View: FunctionComponent<P> }>;
  given: P;
}) {
  const found = useLoaded(props.load, props.name);
  const View = found.value?.View;
  return (
    <>
      <Trouble error={found.error} retry={found.retry} />
      {View ? <View {...props.given} /> : !found.error && <Skeleton />}
    </>
  );
}

/** Returns a value as indented JSON, and text unchanged. */
export function pretty(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

/** The output of a process, in a dialog. */
export function LogDialog(props: { title: string; load: () => Promise<string[]>; onClose: () => void }) {
  const lines = useLoaded(props.load, props.title);
  return (
    <Dialog title={props.title} onClose={props.onClose} side>
      <Trouble error={lines.error} retry={lines.retry} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document" tabIndex={0} aria-label={t("logs")}>
        {lines.value && !lines.value.length && <p class="soft">{t("logs.none")}</p>}
        {lines.value && (
          <Blocks as="div" rows={lines.value} height={LINE_HEIGHT_PX}>
            {(line) => `${line}\n`}
          </Blocks>
        )}
      </section>
    </Dialog>
  );
}
