// The steps of a run as bars by start and length. A step opens to its input and output.

import { useEffect, useRef, useState } from "preact/hooks";
import { count, dollars, duration } from "../format";
import { pretty } from "../parts/ui";
import type { TraceStep } from "../types";
import { t } from "../words/words";
import { boxOf } from "./RunDiagram";
import { lengthOf, type Row, waterfall } from "./waterfall";

/** `opened` names the step to open, in a new object each time. `isBusy`: no step can be run again now. */
export function Waterfall(props: {
  steps: TraceStep[];
  opened: { step: string };
  isBusy: boolean;
  onFork: (path: string) => void;
}) {
  const { steps, opened, isBusy, onFork } = props;
  const [kind, setKind] = useState("");
  const [shown, setShown] = useState<Row | null>(null);
  const kinds = [...new Set(steps.map((step) => step.kind))].sort();
  const rows = waterfall(steps, kind);
  const length = lengthOf(waterfall(steps));
  return (
    <>
      <div class="actions spread">
        <p class="soft grow" id="stepabout" role="status">
          {shown ? aboutOf(shown) : t("waterfall.length", { time: duration(length) })}
        </p>
        {kinds.length > 1 && (
          <select aria-label={t("waterfall.kind")} onChange={(event) => setKind(event.currentTarget.value)}>
            <option value="">{t("waterfall.all")}</option>
            {kinds.map((each) => (
              <option key={each}>{each}</option>
            ))}
          </select>
        )}
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document steps" tabIndex={0} aria-label={t("runs.steps")}>
        {rows.map((row) => (
          <RowView
            key={`${row.path} ${row.step?.attempt}`}
            row={row}
            length={length}
            opened={opened.step && row.step && opened.step === boxOf(row.path) ? opened : null}
            isBusy={isBusy}
            onShow={setShown}
            onFork={onFork}
          />
        ))}
      </section>
    </>
  );
}

/** Returns what a row is: its path, state, times, tokens and cost. */
function aboutOf({ path, start, milliseconds, step }: Row): string {
  const tokens = step ? step.prompt_tokens + step.completion_tokens : 0;
  return [
    path,
    step?.kind,
    step && t(`step.${step.status}`),
    t("waterfall.start", { time: duration(start) }),
    duration(milliseconds),
    tokens ? t("answer.tokens", { count: count(tokens) }) : "",
    step?.cost ? dollars(step.cost) : "",
    step && step.attempt > 1 ? t("runs.attempt", { number: step.attempt }) : "",
  ]
    .filter(Boolean)
    .join(" · ");
}

function RowView(props: {
  row: Row;
  length: number;
  opened: object | null;
  isBusy: boolean;
  onShow: (row: Row | null) => void;
  onFork: (path: string) => void;
}) {
  const { row, length, opened, isBusy, onShow, onFork } = props;
  const { step } = row;
  const place = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    if (!opened || !place.current) return;
    place.current.open = true;
    place.current.scrollIntoView({ block: "nearest" });
  }, [opened]);
  const share = (value: number) => `${(100 * value) / length}%`;
  const shows = {
    onMouseEnter: () => onShow(row),
    onMouseLeave: () => onShow(null),
    onFocus: () => onShow(row),
    onBlur: () => onShow(null),
  };
  const line = (
    <span class={`fall ${step?.status ?? "group"}`} style={{ "--depth": row.depth }}>
      <span class="name">{row.name}</span>
      <span class="track" aria-hidden="true">
        <span style={{ left: share(row.start), width: share(row.milliseconds) }} />
      </span>
      <span class={step?.status === "failed" ? "bad" : "soft"}>
        {step && step.status !== "completed" ? t(`step.${step.status}`) : duration(row.milliseconds)}
      </span>
    </span>
  );
  if (!step) return <div {...shows}>{line}</div>;
  return (
    <details ref={place}>
      <summary {...shows}>{line}</summary>
      <p class="soft">{aboutOf(row)}</p>
      <p class="soft">{t("runs.input")}</p>
      <pre>{pretty(step.input)}</pre>
      <p class="soft">{t("runs.output")}</p>
      <pre>{pretty(step.error ?? step.output)}</pre>
      <button type="button" disabled={isBusy} onClick={() => onFork(step.path)}>
        {t("runs.fork")}
      </button>
    </details>
  );
}
