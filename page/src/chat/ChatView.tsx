import type { ReadonlySignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { part, rows, sentence } from "../api";
import { NewStore } from "../documents/DocumentsView";
import { callSnippet } from "../format";
import { Chooser } from "../parts/Chooser";
import { Icon, IconButton } from "../parts/Icon";
import { Markdown } from "../parts/Markdown";
import { Copy, Dialog, Empty, saveAs, Trouble, useLoaded } from "../parts/ui";
import { go, link } from "../route";
import { status, targets } from "../status";
import type { Store } from "../types";
import { t } from "../words/words";
import { AnswerView, Figures, QuestionView, ReadAloud, Stage } from "./AnswerView";
import { ArtifactPanel, SHOW_ARTIFACT } from "./Artifact";
import { withoutThought } from "./answer";
import { Composer } from "./Composer";
import type { Content } from "./content";
import {
  ask,
  askInstead,
  besideOf,
  branches,
  choose,
  chooseRival,
  continueBeside,
  isAnswering,
  made,
  main,
  messages,
  openError,
  retry,
  rival,
  rivals,
  rivalTarget,
  session,
  stop,
  target,
  turn,
} from "./conversation";
import { ShownFile } from "./Media";
import { RatingButtons } from "./Rating";
import { CodePanel, RUN_CODE } from "./RunCode";
import { SettingsDialog } from "./SettingsDialog";
import { asJson, asMarkdown, filesIn, type Message, picturesOf, textOf, titleOf } from "./sessions";
import { SourcePanel } from "./source";
import type { Talk } from "./talk";

const NEAR_END_PX = 48;
const MAX_STORES = 4;
const CODE_ACTIONS = [SHOW_ARTIFACT, RUN_CODE];

/**
 * Scrolls to the end as content grows. Stops when the user scrolls up, and resumes when the user is back at the end.
 */
function useFollowing() {
  const place = useRef<HTMLDivElement>(null);
  const [away, setAway] = useState(false);
  const follows = useRef(true);
  const toEnd = () => {
    follows.current = true;
    setAway(false);
    place.current?.scrollTo({ top: place.current.scrollHeight });
  };
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    let last = element.scrollTop;
    const onScroll = () => {
      const left = element.scrollHeight - element.scrollTop - element.clientHeight;
      if (element.scrollTop < last && left > NEAR_END_PX) follows.current = false;
      else if (left <= NEAR_END_PX) follows.current = true;
      last = element.scrollTop;
      setAway(!follows.current);
    };
    const grown = new ResizeObserver(() => {
      if (follows.current) element.scrollTo({ top: element.scrollHeight });
    });
    element.addEventListener("scroll", onScroll, { passive: true });
    if (element.firstElementChild) grown.observe(element.firstElementChild);
    return () => {
      element.removeEventListener("scroll", onScroll);
      grown.disconnect();
    };
  }, []);
  return { place, away, toEnd };
}

export function ChatView() {
  const { place, away, toEnd } = useFollowing();
  const said = messages.value;
  const asked = turn.value;
  const id = session.value?.id ?? "";

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key === "Escape" && !document.querySelector("dialog[open]")) stop();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another conversation opens at its end
  useLayoutEffect(toEnd, [id]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new question scrolls to its answer; a complete answer moves nothing
  useLayoutEffect(() => {
    if (asked) toEnd();
  }, [asked]);

  const nothing = !said.length && !asked && !made.value.length && !openError.value;
  return (
    <div class="chat">
      <ChatHead />
      <div class="talkframe" ref={place}>
        <div id="talk">
          <Trouble error={openError.value} />
          {nothing && <Welcome />}
          {said.map((message, number) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: a message is identified by its position
            <SaidMessage key={`${id} ${number}`} message={message} place={number} />
          ))}
          {asked && (
            <>
              <div class="saidframe mine">
                <Question content={asked.question} />
              </div>
              <Beside place={said.length + 1} question={asked.question}>
                <LiveAnswer talk={main} />
              </Beside>
            </>
          )}
          {made.value.map((each) => (
            <article key={each.id} class="turn">
              <div class="said user">{each.prompt}</div>
              <div class="said" aria-busy={each.busy}>
                {each.busy && <span class="dots" aria-hidden="true" />}
                {each.files.map((file) => (
                  <ShownFile key={file.url} file={file} />
                ))}
                <Trouble error={each.error} />
              </div>
            </article>
          ))}
        </div>
      </div>
      {away && (
        <button type="button" class="toend" onClick={toEnd}>
          <Icon name="end" /> {t("chat.toEnd")}
        </button>
      )}
      <Composer />
      <SourcePanel />
      <ArtifactPanel />
      <CodePanel />
    </div>
  );
}

/** The empty chat: questions to ask, documents to add, or the stores to ask instead of a model. */
function Welcome() {
  if (!status.value) return null;
  const who = target.value;
  const { stores } = status.value;
  const store = who?.kind === "store" ? stores.find((each) => each.name === who.name) : undefined;
  return (
    <Empty title={who ? t("chat.welcome") : t("chat.nobody")} icon={store ? "documents" : "chat"}>
      {store && <Beginnings key={store.id} store={store} />}
      {!stores.length && <AddDocuments note={t("chat.addDocuments")} />}
      {who?.kind === "model" && <OtherStores />}
      <p class="soft">{who ? t("chat.welcomeNote") : t("chat.nobodyNote")}</p>
      {who && (
        <details class="aside">
          <summary>{t("chat.fromCode")}</summary>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
          <pre class="snippet" id="snippet" tabIndex={0}>
            {callSnippet(who.name)}
          </pre>
        </details>
      )}
    </Empty>
  );
}

/** The stores that answer questions themselves. */
function OtherStores() {
  const stores = targets().filter((each) => each.kind === "store");
  if (!stores.length) return null;
  return (
    <>
      <p>{t("chat.askStore")}</p>
      <p class="next-step">
        {stores.slice(0, MAX_STORES).map((each) => (
          <button key={each.name} type="button" onClick={() => choose(each.name)}>
            <Icon name="documents" /> {each.name}
          </button>
        ))}
      </p>
    </>
  );
}

/** The next step where no document is: into the store, or into a new one. */
function AddDocuments({ note, store }: { note: string; store?: Store }) {
  const [making, setMaking] = useState(false);
  return (
    <div id="add">
      <p>{note}</p>
      <p class="next-step">
        <button
          type="button"
          class="primary"
          onClick={() => (store ? go(link("library", "documents", store.name)) : setMaking(true))}
        >
          <Icon name="upload" /> {t("chat.add")}
        </button>
      </p>
      {making && <NewStore onClose={() => setMaking(false)} />}
    </div>
  );
}

/** Questions that the documents of a store answer, or the progress of indexing. */
function Beginnings({ store }: { store: Store }) {
  const { in_progress: waiting, total } = store.file_counts;
  const about = `${store.id} ${store.file_counts.completed} ${waiting}`;
  const questions = useLoaded(async () => {
    const isWhole = total > 0 && waiting === 0;
    return isWhole ? rows<string>(`/api/stores/${part(store.id)}/questions`) : [];
  }, about).value;
  if (!total) {
    return (
      <AddDocuments
        store={store}
        note={store.folder ? t("chat.emptyFolder", { folder: store.folder }) : t("chat.empty")}
      />
    );
  }
  if (waiting) {
    const label = t("chat.reading", { done: total - waiting, total });
    return (
      <p id="reading" role="status">
        {label} <progress value={total - waiting} max={total} aria-label={label} />
      </p>
    );
  }
  return (
    <ul class="beginnings" aria-label={t("chat.beginnings")}>
      {questions?.map((question) => (
        <li key={question}>
          <button type="button" disabled={isAnswering.value} onClick={() => ask(question)}>
            {question}
          </button>
        </li>
      ))}
    </ul>
  );
}

function ChatHead() {
  const [opened, setOpened] = useState<"" | "target" | "settings" | "rival">("");
  const who = target.value;
  const now = session.value;
  const family = branches.value;
  const other = rivalTarget.value;
  const at = family.findIndex((each) => each.id === now?.id);
  const step = (by: number) => {
    const next = family[(at + by + family.length) % family.length];
    if (next) go(link("chat", next.id));
  };
  return (
    <div class="chathead">
      <button id="model" type="button" aria-haspopup="dialog" onClick={() => setOpened("target")}>
        {who ? who.name : t("chat.nobody")} <Icon name="down" />
      </button>
      <span class="soft grow title">{now ? titleOf(now) : ""}</span>
      {family.length > 1 && (
        <span class="branches">
          <button type="button" class="quiet" aria-label={t("branch.before")} onClick={() => step(-1)}>
            ‹
          </button>
          <span>{t("branch.of", { at: at + 1, count: family.length })}</span>
          <button type="button" class="quiet" aria-label={t("branch.next")} onClick={() => step(1)}>
            ›
          </button>
        </span>
      )}
      {(other || rivals().length > 0) && (
        <button
          type="button"
          class="quiet"
          id="beside"
          disabled={isAnswering.value}
          onClick={() => setOpened("rival")}
        >
          <Icon name="compare" />{" "}
          <span class="label">{other ? t("beside.with", { name: other.name }) : t("beside")}</span>
        </button>
      )}
      {who?.kind === "model" && who.does === "chat" && (
        <button type="button" class="quiet" id="settings" onClick={() => setOpened("settings")}>
          <Icon name="tune" /> <span class="label">{t("settings")}</span>
        </button>
      )}
      {opened === "target" && (
        <Dialog title={t("chat.talkTo")} onClose={() => setOpened("")}>
          <Chooser
            label={t("filter")}
            none={t("chat.noTarget")}
            chosen={who?.name ?? ""}
            choices={targets().map((each) => ({
              id: each.name,
              label: each.name,
              note: [...(each.aliases ?? []), t(`kind.${each.does === "chat" ? each.kind : each.does}`)].join(
                " · ",
              ),
            }))}
            onChoose={(name) => {
              choose(name);
              setOpened("");
              document.querySelector<HTMLElement>("#question")?.focus();
            }}
          />
        </Dialog>
      )}
      {opened === "rival" && (
        <Dialog title={t("beside.choose")} onClose={() => setOpened("")}>
          <Chooser
            label={t("filter")}
            none={t("chat.noTarget")}
            chosen={other?.name ?? ""}
            choices={[
              ...(other ? [{ id: "", label: t("beside.nobody") }] : []),
              ...rivals().map((each) => ({ id: each.name, label: each.name, note: t(`kind.${each.kind}`) })),
            ]}
            onChoose={(name) => {
              setOpened("");
              chooseRival(name).catch((error) => {
                openError.value = sentence(error);
              });
              document.querySelector<HTMLElement>("#question")?.focus();
            }}
          />
        </Dialog>
      )}
      {opened === "settings" && <SettingsDialog onClose={() => setOpened("")} />}
    </div>
  );
}

function SaidMessage({ message, place }: { message: Message; place: number }) {
  const [editing, setEditing] = useState(false);
  const said = messages.value;
  if (message.role === "user") {
    if (editing) return <Edit content={message.content} place={place} onClose={() => setEditing(false)} />;
    return (
      <div class="saidframe mine">
        <Question content={message.content} />
        <span class="tools">
          <Copy text={textOf(message.content)} />
          <IconButton
            icon="edit"
            label={t("edit")}
            disabled={isAnswering.value}
            onClick={() => setEditing(true)}
          />
        </span>
      </div>
    );
  }
  const before = said.slice(0, place).findLastIndex((each) => each.role === "user");
  const question = said[before];
  if (!question) return <SaidAnswer talk={main} message={message} />;
  return (
    <Beside place={place} question={question.content}>
      <SaidAnswer talk={main} message={message}>
        {message.stopped && place === said.length - 1 && (
          <button
            type="button"
            class="quiet"
            disabled={isAnswering.value}
            onClick={() => ask(t("chat.continueRequest"))}
          >
            {t("chat.continue")}
          </button>
        )}
        <IconButton
          icon="again"
          label={t("regenerate")}
          disabled={isAnswering.value}
          onClick={() => askInstead(before, question.content)}
        />
      </SaidAnswer>
    </Beside>
  );
}

/**
 * An answer with the other model's answer beside it. `place` is the position of the answer, `question` the question
 * before it.
 */
function Beside(props: { place: number; question: Content; children: ComponentChildren }) {
  const theirs = besideOf(props.place, props.question);
  const asked = rival.turn.value;
  const live = !theirs && asked && props.place >= messages.value.length - 1;
  if (!theirs && !live) return <>{props.children}</>;
  return (
    <div class="pair">
      {props.children}
      {theirs ? (
        <SaidAnswer talk={rival} message={theirs}>
          <button
            type="button"
            class="quiet"
            disabled={isAnswering.value}
            onClick={() =>
              continueBeside().catch((error) => {
                openError.value = sentence(error);
              })
            }
          >
            {t("beside.continue")}
          </button>
        </SaidAnswer>
      ) : (
        <LiveAnswer talk={rival} />
      )}
    </div>
  );
}

function SaidAnswer(props: { talk: Talk; message: Message; children?: ComponentChildren }) {
  const { message } = props;
  const text = textOf(message.content);
  return (
    <div class="saidframe">
      <div class="said answer">
        <AnswerView answer={{ ...message, text, model: message.sender }} codeActions={CODE_ACTIONS} />
        {message.stopped && <p class="soft">{t("chat.stopped")}</p>}
      </div>
      <span class="tools">
        <Figures answer={{ ...message, model: message.sender }} />
        <Copy text={text} />
        {props.children}
        <ReadAloud text={text} />
        <RatingButtons talk={props.talk} message={message} />
      </span>
    </div>
  );
}

function Question({ content }: { content: Content }) {
  return (
    <div class="said user">
      <Markdown text={textOf(content)} />
      {picturesOf(content).map((url) => (
        <img key={url} class="given" src={url} alt={t("attach.given")} />
      ))}
      {filesIn(content).map((name) => (
        <span key={name} class="chip">
          {name}
        </span>
      ))}
    </div>
  );
}

function Edit({ content, place, onClose }: { content: Content; place: number; onClose: () => void }) {
  const [text, setText] = useState(textOf(content));
  const send = (event: Event) => {
    event.preventDefault();
    if (!text.trim()) return;
    onClose();
    const others = typeof content === "string" ? [] : content.filter((piece) => piece.type !== "text");
    askInstead(place, others.length ? [{ type: "text", text }, ...others] : text);
  };
  return (
    <form class="edit" onSubmit={send}>
      <textarea
        aria-label={t("edit")}
        rows={3}
        value={text}
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <p class="soft">{t("edit.note")}</p>
      <div class="actions">
        <button type="button" onClick={onClose}>
          {t("cancel")}
        </button>
        <button type="submit" class="primary">
          {t("send")}
        </button>
      </div>
    </form>
  );
}

/** The value of a signal, updated at most once per frame. */
function useEachFrame<T>(source: ReadonlySignal<T> | undefined): T | undefined {
  const [shown, setShown] = useState({ source, value: source?.peek() });
  useEffect(() => {
    let frame = 0;
    const unwatch = source?.subscribe(() => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        setShown({ source, value: source.peek() });
      });
    });
    return () => {
      cancelAnimationFrame(frame);
      unwatch?.();
    };
  }, [source]);
  return shown.source === source ? shown.value : source?.peek();
}

/** The answer that is being generated, or that failed. */
function LiveAnswer({ talk }: { talk: Talk }) {
  const asked = talk.turn.value;
  const made = useEachFrame(asked?.answer);
  if (!asked || !made) return null;
  const open = talk.isAnswering.value;
  const answer = withoutThought(made, open);
  return (
    <div class="saidframe">
      <div class="said answer live" aria-busy={open} aria-live="polite">
        <AnswerView answer={answer} live={open} />
        {open && <Stage answer={answer} cut={asked.cut.value} />}
        {answer.questions.map((question) => (
          <QuestionView key={question.id} question={question} />
        ))}
      </div>
      {!open && (answer.error || answer.state === "stopped") && (
        <div class="failedturn">
          <Trouble error={answer.error || t("chat.failed")} retry={() => retry(talk)} />
          <button type="button" class="quiet" onClick={() => talk.dismiss()}>
            {t("dismiss")}
          </button>
        </div>
      )}
    </div>
  );
}

/** Exports a conversation as a file: the open one, or another session with its messages. */
export function exportConversation(kind: "md" | "json", now = session.value, said = messages.value): void {
  if (!now) return;
  const name = titleOf(now)
    .replace(/[^\p{L}\p{N} _-]/gu, "")
    .trim();
  const content = (kind === "md" ? asMarkdown : asJson)(now, said);
  const type = kind === "md" ? "text/markdown" : "application/json";
  saveAs(new Blob([content], { type }), `${name || "conversation"}.${kind}`);
}
