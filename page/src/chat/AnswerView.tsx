// An answer: reasoning, tool calls, text, sources and cost.

import { useState } from "preact/hooks";
import { json, part } from "../api";
import type { Unsupported } from "../claims";
import { count, dollars, placeLabel } from "../format";
import { IconButton } from "../parts/Icon";
import { type CodeAction, Markdown, Thoughts } from "../parts/Markdown";
import { QuestionForm } from "../parts/Question";
import { Trouble, useWork } from "../parts/ui";
import type { Passage } from "../passage";
import { modelFor } from "../status";
import type { QuestionDescription } from "../types";
import { t } from "../words/words";
import type { Answer, Call, MadeFile, Usage } from "./answer";
import type { Span } from "./evidence";
import { Made, ShownFile } from "./Media";
import { type Shown, say } from "./media";
import { Marked, quotesOf, source } from "./source";

interface Shape {
  text: string;
  reasoning: string;
  calls: Call[];
  passages: Passage[];
  unsupported?: Unsupported[];
  files?: MadeFile[];
  usage: Usage | null;
  milliseconds: number;
  model: string;
}

/** `live`: the answer is still being generated. */
export function AnswerView(props: { answer: Shape; live?: boolean; codeActions?: CodeAction[] }) {
  const { answer, live, codeActions } = props;
  const open = (number: number, nth: number) => {
    const passage = answer.passages.find((each) => each.rank === number);
    if (passage) source.value = { ...passage, quotes: quotesOf(answer.text, passage, nth) };
  };
  return (
    <>
      <Thoughts text={answer.reasoning} live={live === true} />
      {answer.calls.map((call) => (
        <CallView key={call.id} call={call} live={live === true} />
      ))}
      <Markdown
        text={answer.text}
        cited={answer.passages.map((passage) => passage.rank)}
        {...(answer.unsupported ? { unsupported: answer.unsupported } : {})}
        live={live === true}
        onCite={open}
        {...(codeActions ? { codeActions } : {})}
      />
      {answer.files?.map((file) => (
        <Made key={file.id} file={file} />
      ))}
      {answer.passages.length > 0 && (
        <Sources
          passages={answer.passages.map((each) => ({ ...each, quotes: quotesOf(answer.text, each) }))}
        />
      )}
    </>
  );
}

function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function CallView({ call, live }: { call: Call; live: boolean }) {
  const runs = live && call.result === undefined;
  const state = call.failed ? t("call.failed") : runs ? t("call.runs") : t("call.done");
  return (
    <details class="aside call">
      <summary>
        <span class="name">{call.name}</span> <span class={call.failed ? "bad" : "soft"}>{state}</span>
      </summary>
      {call.arguments && <pre>{pretty(call.arguments)}</pre>}
      {call.result !== undefined && (
        <>
          <p class="soft">{t("call.result")}</p>
          <pre>{pretty(call.result)}</pre>
        </>
      )}
    </details>
  );
}

function Sources({ passages }: { passages: (Passage & { quotes: Span[] })[] }) {
  return (
    <details class="aside sources">
      <summary>{t("answer.sources", { count: passages.length })}</summary>
      <ol>
        {passages.map((passage) => (
          <li key={passage.rank} value={passage.rank}>
            <button
              type="button"
              class="link"
              onClick={() => {
                source.value = passage;
              }}
            >
              {passage.filename}
            </button>{" "}
            <span class="soft">{placeLabel(passage.place)}</span>
            <blockquote>
              <Marked text={passage.text} spans={passage.quotes} />
            </blockquote>
          </li>
        ))}
      </ol>
    </details>
  );
}

/** Tokens, speed and cost, as far as they are known. */
export function Figures({ answer }: { answer: Pick<Shape, "usage" | "milliseconds" | "model"> }) {
  const { usage, milliseconds } = answer;
  const tokens = usage?.completion_tokens ?? 0;
  const parts = [
    answer.model,
    usage ? t("answer.tokens", { count: count(tokens) }) : "",
    tokens && milliseconds > 50
      ? t("answer.speed", { count: Math.round((1000 * tokens) / milliseconds) })
      : "",
    usage?.cost ? dollars(usage.cost) : "",
  ];
  return <span class="figures soft">{parts.filter(Boolean).join(" · ")}</span>;
}

export function ReadAloud({ text }: { text: string }) {
  const [sound, setSound] = useState<Shown | null>(null);
  const [busy, error, work] = useWork();
  const model = modelFor("speech");
  if (!model || !text) return null;
  return (
    <>
      <IconButton
        icon="aloud"
        class="aloud"
        label={t("answer.aloud")}
        disabled={busy}
        onClick={() => work(async () => setSound(await say(model, text)))}
      />
      {sound && <ShownFile file={sound} />}
      <Trouble error={error} />
    </>
  );
}

/** A question of a run, answered in place. `onAnswer` is called when the daemon has accepted the answer. */
export function QuestionView(props: { question: QuestionDescription; onAnswer?: () => void }) {
  const { question, onAnswer } = props;
  return (
    <QuestionForm
      question={question}
      onReply={async (accepted, value, note) => {
        await json(`/api/questions/${part(question.id)}/answer`, {
          json: { accepted, value, ...(note ? { note } : {}) },
        });
        onAnswer?.();
      }}
    />
  );
}

/** The progress of an answer before its first word. */
export function Stage({ answer, cut }: { answer: Answer; cut: boolean }) {
  if (cut) return <p class="soft stage">{t("chat.cut")}</p>;
  if (answer.state !== "asking" && answer.text) return null;
  return (
    <p class="soft stage">
      <span class="dots" aria-hidden="true" /> {answer.stage}
    </p>
  );
}
