import { useEffect, useRef, useState } from "preact/hooks";
import { isAbort, json, sentence } from "../api";
import { recall, remember } from "../kept";
import { Chooser, isComposing } from "../parts/Chooser";
import { Icon, IconButton } from "../parts/Icon";
import { Dialog, Trouble, useLoaded, useWork } from "../parts/ui";
import { modelFor, refresh, status } from "../status";
import { t } from "../words/words";
import type { Content } from "./content";
import {
  ask,
  attachDocument,
  configure,
  isAnswering,
  type MadeTurn,
  putMade,
  session,
  settings,
  stop,
  target,
} from "./conversation";
import { CONVERSATION, filesOf, removeFrom } from "./documents";
import { draw, isMedia, type Picture, record, say, take } from "./media";
import { type AskedFile, useSuggestions } from "./Suggestions";

function contentOf(question: string, pictures: Picture[], files: AskedFile[]): Content {
  if (!pictures.length && !files.length) return question;
  return [
    { type: "text", text: question },
    ...pictures.map(({ url }) => ({ type: "image_url" as const, image_url: { url } })),
    ...files.map(({ id, name }) => ({ type: "file" as const, file: { file_id: id, filename: name } })),
  ];
}

/** A destination for a document. */
type Place = { id: string; label: string; note?: string };

export function Composer() {
  const draftName = `draft.${session.value?.id ?? ""}`;
  const [pictures, setPictures] = useState<Picture[]>([]);
  const [askedFiles, setAskedFiles] = useState<AskedFile[]>([]);
  const [recording, setRecording] = useState<{ stop: () => Promise<File> } | null>(null);
  const [making, setMaking] = useState<AbortController | null>(null);
  const [undecided, setUndecided] = useState<File[]>([]);
  const [reading, setReading] = useState("");
  const [busy, error, work] = useWork();
  const [, unread, readWork] = useWork();
  const field = useRef<HTMLTextAreaElement>(null);
  const input = useRef<HTMLInputElement>(null);
  const who = target.value;
  const working = isAnswering.value || making !== null || reading !== "";

  const suggestions = useSuggestions({
    field,
    work: readWork,
    addFile: (file) => setAskedFiles((before) => [...before.filter((each) => each.id !== file.id), file]),
    replace: ({ start, end }, text) => {
      const box = field.current;
      if (!box) return;
      box.setRangeText(text, start, end, "end");
      remember(draftName, box.value);
      growField(box);
      box.focus();
    },
  });

  // Each conversation has its own draft.
  useEffect(() => {
    if (field.current) field.current.value = recall(draftName);
    growField(field.current);
  }, [draftName]);

  const placesFor = (): Place[] => {
    const stores = (status.value?.stores ?? []).map(({ id, name }) => ({ id, label: name }));
    const own = { id: CONVERSATION, label: t("attach.here"), note: t("attach.hereNote") };
    if (who?.does !== "chat") return [];
    return who.kind === "model"
      ? [own, ...stores.filter((store) => store.id !== settings.value.documents)]
      : stores;
  };

  const readIn = (files: File[], into: string) =>
    readWork(async () => {
      try {
        for (const file of files) {
          setReading(file.name);
          await attachDocument(file, into);
        }
      } finally {
        setReading("");
      }
    });

  const attach = (given: Iterable<File>) =>
    work(async () => {
      const files = [...given];
      const documents = files.filter((file) => !isMedia(file));
      const places = documents.length ? placesFor() : [];
      if (documents.length && !places.length) {
        throw new Error(t("attach.unknown", { name: documents[0]?.name ?? "" }));
      }
      const into = places.find((place) => place.id === settings.value.into);
      if (documents.length && into) readIn(documents, into.id);
      else setUndecided(documents);
      const found = await take(files.filter(isMedia), modelFor("transcription"));
      setPictures((before) => [...before, ...found.pictures]);
      if (found.words && field.current) {
        field.current.value = [field.current.value, found.words].filter(Boolean).join(" ");
        remember(draftName, field.current.value);
      }
      field.current?.focus();
    });

  const make = async (prompt: string, given: Picture[]) => {
    if (!who) return;
    const leaving = new AbortController();
    const begun: MadeTurn = { id: performance.now(), prompt, files: [], error: "", busy: true };
    setMaking(leaving);
    putMade(begun);
    try {
      const files =
        who.does === "image"
          ? await draw(who.name, prompt, given, leaving.signal)
          : [await say(who.name, prompt, leaving.signal)];
      putMade({ ...begun, files, busy: false });
    } catch (caught) {
      putMade({ ...begun, error: isAbort(caught) ? t("chat.stopped") : sentence(caught), busy: false });
    }
    setMaking(null);
  };

  const submit = (event?: Event) => {
    event?.preventDefault();
    const question = field.current?.value.trim() ?? "";
    if (!question || working || busy || !who || !field.current) return;
    field.current.value = "";
    growField(field.current);
    remember(draftName, "");
    setPictures([]);
    setAskedFiles([]);
    if (who.does === "chat") ask(contentOf(question, pictures, askedFiles));
    else make(question, pictures);
  };

  const toggleRecording = () =>
    work(async () => {
      if (!recording) {
        setRecording(await record());
        return;
      }
      setRecording(null);
      await attach([await recording.stop()]);
    });

  return (
    <div class="composer">
      <SmallModelHint />
      <Trouble error={error || unread} />
      {suggestions.menu}
      <form
        id="ask"
        onSubmit={submit}
        onDragOver={(event) => event.preventDefault()}
        onDrop={(event) => {
          event.preventDefault();
          attach([...(event.dataTransfer?.files ?? [])]);
        }}
      >
        {who?.kind === "model" && <Chosen work={readWork} />}
        {settings.value.documents && who?.kind === "model" && (
          <Documents key={`${settings.value.documents} ${reading}`} store={settings.value.documents} />
        )}
        {pictures.length + askedFiles.length > 0 && (
          <div id="attached">
            {pictures.map((picture) => (
              <Chip
                key={picture.url}
                name={picture.name}
                onRemove={() => setPictures(pictures.filter((other) => other !== picture))}
              />
            ))}
            {askedFiles.map((file) => (
              <Chip
                key={file.id}
                name={file.name}
                onRemove={() => setAskedFiles(askedFiles.filter((other) => other !== file))}
              />
            ))}
          </div>
        )}
        <textarea
          id="question"
          ref={field}
          rows={1}
          disabled={busy}
          placeholder={who ? t("chat.ask", { name: who.name }) : t("chat.nobody")}
          aria-label={t("chat.question")}
          {...suggestions.field}
          onInput={(event) => {
            remember(draftName, event.currentTarget.value);
            growField(event.currentTarget);
            if (!event.isComposing) suggestions.look();
          }}
          onKeyDown={(event) => {
            if (suggestions.takeKey(event)) return;
            if (event.key === "Enter" && !event.shiftKey && !isComposing(event)) submit(event);
          }}
          onPaste={(event) => {
            const pasted = [...(event.clipboardData?.files ?? [])];
            if (pasted.length) {
              event.preventDefault();
              attach(pasted);
            }
          }}
        />
        <input
          id="files"
          ref={input}
          type="file"
          multiple
          hidden
          onChange={async (event) => {
            const input = event.currentTarget;
            await attach([...(input.files ?? [])]);
            input.value = "";
          }}
        />
        <div class="buttons">
          <IconButton
            id="attach"
            icon="attach"
            label={t("attach.title")}
            onClick={() => input.current?.click()}
          />
          {reading && (
            <span class="soft" role="status">
              {t("attach.reading", { name: reading })}
            </span>
          )}
          {modelFor("transcription") && navigator.mediaDevices && (
            <IconButton
              id="record"
              icon={recording ? "stop" : "record"}
              label={t(recording ? "record.stop" : "record")}
              pressed={recording !== null}
              onClick={toggleRecording}
            />
          )}
          <span class="grow" />
          {working && (
            <button
              id="stop"
              type="button"
              class="round"
              title={`${t("stop")} (Esc)`}
              aria-label={t("stop")}
              onClick={() => {
                making?.abort();
                stop();
              }}
            >
              <Icon name="stop" />
            </button>
          )}
          <button
            id="send"
            type="submit"
            class="primary round"
            title={t("send")}
            aria-label={t("send")}
            disabled={working || busy || !who}
          >
            <Icon name="send" />
          </button>
        </div>
      </form>
      {undecided.length > 0 && (
        <Dialog title={t("attach.where")} onClose={() => setUndecided([])}>
          <p class="soft">{t("attach.whereNote")}</p>
          <Chooser
            label={t("filter")}
            none={t("chat.noTarget")}
            choices={placesFor()}
            onChoose={(id) => {
              setUndecided([]);
              readIn(undecided, id);
            }}
          />
        </Dialog>
      )}
    </div>
  );
}

function Chip(props: { name: string; disabled?: boolean; onRemove: () => void }) {
  return (
    <button
      type="button"
      class="chip"
      disabled={props.disabled}
      title={t("attach.remove")}
      onClick={props.onRemove}
    >
      {props.name} ×
    </button>
  );
}

/** The stores and skills of this conversation, with a button to remove each. */
function Chosen({ work }: { work: (action: () => Promise<unknown>) => void }) {
  const { stores = [], skills = [] } = settings.value;
  const known = (status.value?.stores ?? []).filter((store) => stores.includes(store.id));
  if (!known.length && !skills.length) return null;
  const without = (name: "stores" | "skills", value: string) =>
    work(() => {
      const before = settings.peek();
      return configure({ ...before, [name]: before[name]?.filter((each) => each !== value) });
    });
  return (
    <div id="chosen">
      {known.map(({ id, name }) => (
        <Chip key={id} name={`# ${name}`} onRemove={() => without("stores", id)} />
      ))}
      {skills.map((name) => (
        <Chip key={name} name={`/ ${name}`} onRemove={() => without("skills", name)} />
      ))}
    </div>
  );
}

/** The documents of this conversation, with a button to remove each. */
function Documents({ store }: { store: string }) {
  const files = useLoaded(() => filesOf(store), store);
  const [busy, error, work] = useWork();
  if (!files.value?.length && !error) return null;
  return (
    <div id="documents">
      {files.value?.map((file) => (
        <Chip
          key={file.id}
          name={file.filename}
          disabled={busy}
          onRemove={() =>
            work(async () => {
              await removeFrom(store, file.id);
              files.reload();
            })
          }
        />
      ))}
      <Trouble error={error} />
    </div>
  );
}

function growField(field: HTMLTextAreaElement | null): void {
  if (!field) return;
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, innerHeight * 0.4)}px`;
}

/** A hint that is shown for the tiny model: what it is, and how to get a better one. */
function SmallModelHint() {
  const [busy, error, work] = useWork();
  const small = status.value?.small_model;
  const name = target.value?.name ?? "";
  if (!small || ![...small.names, ...small.apps].includes(name)) return null;
  const better = status.value?.recommended;
  return (
    <p id="hint" class="soft">
      <span>{small.hint}</span>{" "}
      {better && status.value?.home && !small.fetching && (
        <button
          id="better"
          type="button"
          class="link"
          disabled={busy}
          onClick={() =>
            work(async () => {
              await json("/api/models/better", { json: { accept: true } });
              await refresh();
            })
          }
        >
          {t("better.fetch", { name: String(better.name), size: Number(better.size_gb) })}
        </button>
      )}
      <Trouble error={error} />
    </p>
  );
}
