// The diagram of a flow with the state of each step of a run, updated while the run is in progress.

import { useEffect, useState } from "preact/hooks";
import { followRun, isAbort, part, send, sentence } from "../api";
import { Trouble, useLoaded } from "../parts/ui";
import type { TraceStep } from "../types";
import { t } from "../words/words";

export type StepState = "running" | "waiting" | "completed" | "failed" | "skipped" | "stopped";

/**
 * The state of each step so far, by its path with item numbers, and the step of each open question, by the question's
 * id.
 */
export interface Course {
  steps: Record<string, StepState>;
  asked: Record<string, string>;
}

export const BEGUN: Course = { steps: {}, asked: {} };

type RunEvent = { type: string; path?: string; error?: unknown; id?: string; name?: string };

/** Returns the course after another event. */
export function withStepEvent(course: Course, event: RunEvent): Course {
  const { steps, asked } = course;
  const { path = "", id = "" } = event;
  if (event.type === "step_started") return { asked, steps: { ...steps, [path]: "running" } };
  if (event.type === "step_finished") {
    return { asked, steps: { ...steps, [path]: event.error ? "failed" : "completed" } };
  }
  if (event.type === "asked") return { steps, asked: { ...asked, [id]: event.name ?? "" } };
  if (event.type === "answered") {
    const { [id]: _answered, ...others } = asked;
    return { steps, asked: others };
  }
  return course;
}

/** Returns the path of a step without item and attempt numbers, which identifies its box in the diagram. */
export function boxOf(path: string): string {
  return path.replace(/\[\d+\]|#\d+/g, "");
}

export interface BoxState {
  state: StepState;
  /** The number of finished items; `begun` is the number of started ones. */
  done: number;
  begun: number;
}

const ORDER: StepState[] = ["waiting", "running", "failed", "stopped", "completed", "skipped"];

/** Returns the state of each box. A box with several items shows the most important state. */
export function boxStates(course: Course, trace: TraceStep[], isEnded: boolean): Map<string, BoxState> {
  const steps: Record<string, StepState> = { ...course.steps };
  for (const step of trace) if (isEnded || steps[step.path] !== "running") steps[step.path] = step.status;
  const isWaiting = Object.keys(course.asked).length > 0;
  const working = Object.keys(steps).filter((path) => steps[path] === "running");
  const found = new Map<string, BoxState>();
  for (const [path, told] of Object.entries(steps)) {
    let state = told;
    if (told === "running" && isEnded) state = "stopped";
    // The innermost running step asks the question.
    else if (told === "running" && isWaiting && !working.some((other) => other.startsWith(`${path}.`))) {
      state = "waiting";
    }
    const before = found.get(boxOf(path));
    const isDone = state !== "running" && state !== "waiting";
    found.set(boxOf(path), {
      state: before && ORDER.indexOf(before.state) < ORDER.indexOf(state) ? before.state : state,
      done: (before?.done ?? 0) + (isDone ? 1 : 0),
      begun: (before?.begun ?? 0) + 1,
    });
  }
  return found;
}

interface Box {
  path: string;
  style: { left: string; top: string; width: string; height: string };
}

interface Drawing {
  url: string;
  width: number;
  boxes: Box[];
}

/** Loads the diagram as an image, in which nothing executes, and reads the positions of its boxes. */
async function draw(path: string): Promise<Drawing> {
  const text = await (await send(path)).text();
  const plain = text.replace(/<style>.*?<\/style>/s, ""); // the page's policy would complain about the style
  const root = new DOMParser().parseFromString(plain, "image/svg+xml").documentElement;
  const of = (element: Element, name: string) => Number(element.getAttribute(name));
  const [width, height] = [of(root, "width"), of(root, "height")];
  const share = (value: number, whole: number) => `${(100 * value) / whole}%`;
  const boxes = [...root.querySelectorAll("[data-step]")].map((box) => ({
    path: box.getAttribute("data-step") ?? "",
    style: {
      left: share(of(box, "x"), width),
      top: share(of(box, "y"), height),
      width: share(of(box, "width"), width),
      height: share(of(box, "height"), height),
    },
  }));
  return { url: URL.createObjectURL(new Blob([text], { type: "image/svg+xml" })), width, boxes };
}

const SIGNS: Record<StepState, string> = {
  running: "▶",
  waiting: "⏸",
  completed: "✓",
  failed: "✗",
  skipped: "⤼",
  stopped: "■",
};

export function RunDiagram(props: {
  run: string;
  name: string;
  trace: TraceStep[];
  isEnded: boolean;
  onOpen: (path: string) => void;
  onEnd: () => void;
}) {
  const { run, name, trace, isEnded, onOpen, onEnd } = props;
  const path = `/api/runs/${part(run)}`;
  const drawing = useLoaded(() => draw(`${path}/trace?format=svg`), path);
  const [course, setCourse] = useState(BEGUN);
  const [error, setError] = useState("");
  const [round, setRound] = useState(0);
  const url = drawing.value?.url;
  useEffect(() => () => URL.revokeObjectURL(url ?? ""), [url]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: another round follows the run again
  useEffect(() => {
    if (isEnded) return;
    const leaving = new AbortController();
    const listen = async () => {
      setCourse(BEGUN);
      setError("");
      for await (const event of followRun<RunEvent>(run, leaving.signal)) {
        setCourse((before) => withStepEvent(before, event));
      }
      onEnd();
    };
    listen().catch((caught) => {
      if (!isAbort(caught)) setError(sentence(caught));
    });
    return () => leaving.abort();
  }, [path, isEnded, round]);
  if (drawing.error || !drawing.value) return null; // an app that is no longer deployed has no diagram
  const states = boxStates(course, trace, isEnded);
  return (
    <>
      <Trouble error={error} retry={() => setRound((before) => before + 1)} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="wide" tabIndex={0} aria-label={t("apps.diagramOf", { name })}>
        <div class="rundiagram" style={{ width: `${drawing.value.width}px` }}>
          <img class="diagram" src={url} alt="" />
          {drawing.value.boxes.map((box) => (
            <BoxButton key={box.path} box={box} found={states.get(box.path)} onOpen={onOpen} />
          ))}
        </div>
      </section>
    </>
  );
}

function BoxButton(props: { box: Box; found: BoxState | undefined; onOpen: (path: string) => void }) {
  const { box, found, onOpen } = props;
  const items = found && found.begun > 1 ? `${found.done}/${found.begun}` : "";
  const word = found ? t(`step.${found.state}`) : t("step.notBegun");
  return (
    <button
      type="button"
      class={`step ${found?.state ?? ""}`}
      style={box.style}
      aria-label={[box.path, word, items].filter(Boolean).join(", ")}
      data-step={box.path}
      onClick={() => onOpen(box.path)}
    >
      {found && (
        <span>
          {SIGNS[found.state]} {items}
        </span>
      )}
    </button>
  );
}
