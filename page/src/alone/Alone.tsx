// A single app, as `portico web` serves it. Only this tab stores the conversation.

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import { ApiError, frames, isAbort, send, sentence } from "../api";
import { withoutThought } from "../chat/answer";
import { type Claim, type Unsupported, unsupportedIn } from "../claims";
import { Markdown, Thoughts } from "../parts/Markdown";
import { Trouble } from "../parts/ui";
import { language, speak, t } from "../words/words";

const KEPT = "portico.alone";
const MAX_MESSAGES = 199;

interface Said {
  role: "user" | "assistant";
  content: string;
  /** The passages that the answer cites. */
  cited: Cited[];
  unsupported?: Unsupported[];
}

interface Chunk {
  choices?: { delta?: { content?: string; annotations?: Annotation[]; claims?: Claim[] } }[];
  error?: { message: string };
}

interface Cited {
  index: number;
  filename: string;
  quote: string;
}

interface Annotation {
  file_citation?: Cited;
}

function recallSaid(): Said[] {
  try {
    return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]") as Said[];
  } catch {
    return [];
  }
}

function keepSaid(said: Said[]): void {
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(said));
  } catch {
    // Without storage, the conversation lasts only until a reload.
  }
}

/** Returns the answer after a chunk of the stream. */
export function withChunk(answer: Said, chunk: Chunk): Said {
  if (chunk.error) throw new ApiError(chunk.error.message, 500);
  const delta = chunk.choices?.[0]?.delta ?? {};
  const cited = (delta.annotations ?? []).flatMap((note) => note.file_citation ?? []);
  const content = answer.content + (delta.content ?? "");
  return {
    ...answer,
    content,
    unsupported: [...(answer.unsupported ?? []), ...unsupportedIn(content, delta.claims ?? [])],
    cited: [...answer.cited, ...cited.map(({ index, filename, quote }) => ({ index, filename, quote }))],
  };
}

export function LanguageButton() {
  const other = language.value === "en" ? "zh" : "en";
  return (
    <button type="button" class="quiet" id="language" lang={other} onClick={() => speak(other)}>
      {other === "zh" ? "中文" : "English"}
    </button>
  );
}

export function Alone({ title }: { title: string }) {
  const [said, setSaid] = useState(recallSaid);
  const [answer, setAnswer] = useState<Said | null>(null);
  const [error, setError] = useState("");
  const leaving = useRef<AbortController | null>(null);
  const field = useRef<HTMLTextAreaElement>(null);
  const end = useRef<HTMLDivElement>(null);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => event.key === "Escape" && leaving.current?.abort();
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  // biome-ignore lint/correctness/useExhaustiveDependencies: scrolls to the end as content grows
  useLayoutEffect(() => end.current?.scrollIntoView({ block: "end" }), [said, answer]);

  const put = (now: Said[]) => {
    setSaid(now);
    keepSaid(now);
  };

  const ask = async (asked: Said[]) => {
    const left = new AbortController();
    leaving.current = left;
    let made: Said = { role: "assistant", content: "", cited: [] };
    put(asked);
    setError("");
    setAnswer(made);
    try {
      const messages = asked.slice(-MAX_MESSAGES).map(({ role, content }) => ({ role, content }));
      for await (const frame of frames(await send("/chat", { json: { messages }, signal: left.signal }))) {
        made = withChunk(made, JSON.parse(frame.data) as Chunk);
        setAnswer(made);
      }
    } catch (caught) {
      if (!isAbort(caught)) setError(sentence(caught));
    }
    if (made.content) put([...asked, made]);
    setAnswer(null);
    leaving.current = null;
  };

  const submit = (event: Event) => {
    event.preventDefault();
    const content = field.current?.value.trim() ?? "";
    if (!content || answer || !field.current) return;
    field.current.value = "";
    ask([...said, { role: "user", content, cited: [] }]);
  };

  return (
    <main class="alone">
      <header class="actions spread">
        <h1>{title}</h1>
        <span class="actions">
          {said.length > 0 && (
            <button type="button" class="quiet" disabled={answer !== null} onClick={() => put([])}>
              {t("chat.new")}
            </button>
          )}
          <LanguageButton />
        </span>
      </header>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="talkframe" tabIndex={0} aria-label={t("conversations.one")}>
        <div id="talk">
          {[...said, ...(answer ? [answer] : [])].map((each, place) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: a message is identified by its position
            <SaidAlone key={place} said={each} live={each === answer} />
          ))}
          <Trouble error={error} {...(said.at(-1)?.role === "user" ? { retry: () => ask(said) } : {})} />
          <div ref={end} />
        </div>
      </section>
      <form id="ask" onSubmit={submit}>
        <textarea
          id="question"
          ref={field}
          rows={2}
          maxLength={100_000}
          placeholder={t("chat.ask", { name: title })}
          aria-label={t("chat.question")}
          onKeyDown={(event) => {
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
          }}
        />
        <div class="buttons">
          <span class="grow" />
          {answer && (
            <button id="stop" type="button" title="Esc" onClick={() => leaving.current?.abort()}>
              {t("stop")}
            </button>
          )}
          <button id="send" type="submit" class="primary" disabled={answer !== null}>
            {t("send")}
          </button>
        </div>
      </form>
    </main>
  );
}

/** A question or an answer, with the passages that it cites. */
export function SaidAlone({ said, live }: { said: Said; live: boolean }) {
  const sources = useRef<HTMLDetailsElement>(null);
  if (said.role === "user") return <div class="said user">{said.content}</div>;
  const { content, cited } = said;
  const { text, reasoning, unsupported } = withoutThought(
    { text: content, reasoning: "", unsupported: said.unsupported ?? [] },
    live,
  );
  const open = (number: number) => {
    const list = sources.current;
    if (!list) return;
    list.open = true;
    list.querySelector(`[value="${number}"]`)?.scrollIntoView({ block: "nearest" });
  };
  return (
    <div class={`said answer ${live ? "live" : ""}`} aria-busy={live} aria-live="polite">
      <Thoughts text={reasoning} live={live} />
      <Markdown
        text={text}
        cited={cited.map(({ index }) => index)}
        unsupported={unsupported}
        live={live}
        onCite={open}
      />
      {live && !text && <span class="dots" aria-hidden="true" />}
      {said.cited.length > 0 && (
        <details class="aside sources" ref={sources}>
          <summary>{t("answer.sources", { count: said.cited.length })}</summary>
          <ol>
            {said.cited.map(({ index, filename, quote }) => (
              <li key={index} value={index}>
                {filename}
                {quote && <blockquote>{quote}</blockquote>}
              </li>
            ))}
          </ol>
        </details>
      )}
    </div>
  );
}
