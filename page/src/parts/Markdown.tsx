import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Reason, Unsupported } from "../claims";
import { t } from "../words/words";
import { type Block, Draft } from "./markdown";

/** Number of blocks above which off-screen blocks are not laid out. */
const DRAWN_AT_ONCE = 40;
/** Number of blocks in a group. The blocks of a group off-screen are not checked individually. */
const GROUPED = 25;
/** Characters of a long text that are parsed per frame if the whole text is available at once. */
const READ_AT_ONCE_CHARS = 20_000;

// Code that is loaded with the first block that needs it. A repeated import would search the whole page for its style.
let formulaCode: Promise<typeof import("./formula")> | undefined;
let colourCode: Promise<typeof import("./colours")> | undefined;
let flowchartCode: Promise<typeof import("./flowchart")> | undefined;

/** A button of the code blocks that it fits, in addition to the one that copies the code. */
export interface CodeAction {
  label: () => string;
  fits: (language: string, code: string) => boolean;
  does: (language: string, code: string) => void;
}

/**
 * Text written by a model. `cited`: the numbers that refer to a passage; `onCite` receives the clicked number, and how
 * many citations with this number come before it. `unsupported`: the sentences to mark.
 */
export function Markdown(props: {
  text: string;
  cited?: number[];
  unsupported?: Unsupported[];
  live?: boolean;
  onCite?: (number: number, nth: number) => void;
  codeActions?: CodeAction[];
}) {
  const cite = (event: Event) => {
    const chosen = (event.target as Element).closest("[data-cite]");
    if (!chosen || !props.onCite) return;
    if (event instanceof KeyboardEvent && event.key !== "Enter") return;
    event.preventDefault();
    const number = chosen.getAttribute("data-cite");
    const alike = (event.currentTarget as Element).querySelectorAll(`[data-cite="${number}"]`);
    props.onCite(Number(number), [...alike].indexOf(chosen));
  };
  const draft = useRef<Draft | null>(null);
  draft.current ??= new Draft();
  const [most, setMost] = useState(READ_AT_ONCE_CHARS);
  const whole = props.text.length <= most;
  useEffect(() => {
    if (whole) return;
    const frame = requestAnimationFrame(() => setMost(most + READ_AT_ONCE_CHARS));
    return () => cancelAnimationFrame(frame);
  }, [whole, most]);
  const found = draft.current.blocks(
    whole ? props.text : props.text.slice(0, most),
    props.cited,
    whole ? props.unsupported : props.unsupported?.filter(({ at }) => at <= most),
  );
  const isLong = found.length > DRAWN_AT_ONCE; // only then does the style lay out blocks off-screen later
  const drawnLater = isLong ? found.length - (whole ? DRAWN_AT_ONCE : 0) : 0;
  const drawn = useRef<Block[][]>([]);
  drawn.current = grouped(found, drawn.current);
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the numbers inside are buttons
    <div class={isLong ? "markdown long" : "markdown"} onClick={cite} onKeyDown={cite}>
      {drawn.current.map((blocks, place) => (
        <Group
          // biome-ignore lint/suspicious/noArrayIndexKey: a group is identified by its position
          key={place}
          blocks={blocks}
          live={props.live === true && place === drawn.current.length - 1}
          actions={props.codeActions}
          later={Math.max(0, drawnLater - place * GROUPED)}
        />
      ))}
    </div>
  );
}

/** The reasoning of a model before its answer, collapsed. */
export function Thoughts({ text, live }: { text: string; live: boolean }) {
  if (!text) return null;
  return (
    <details class="aside reasoning">
      <summary>{t("answer.reasoning")}</summary>
      <Markdown text={text} live={live} />
    </details>
  );
}

/** Groups the blocks. A group without changes is the same array as `before`. */
function grouped(blocks: Block[], before: Block[][]): Block[][] {
  return Array.from({ length: Math.ceil(blocks.length / GROUPED) }, (_, place) => {
    const group = blocks.slice(place * GROUPED, (place + 1) * GROUPED);
    const old = before[place];
    return old?.length === group.length && group.every((block, at) => block === old[at]) ? old : group;
  });
}

/**
 * A group of blocks that is laid out together, and drawn again if a block changes. `later`: how many of its blocks are
 * drawn later.
 */
const Group = memo(
  function Group(props: {
    blocks: Block[];
    live: boolean;
    actions: CodeAction[] | undefined;
    later: number;
  }) {
    return (
      <div class="group">
        {props.blocks.map((block, place) => (
          <DrawnBlock
            // biome-ignore lint/suspicious/noArrayIndexKey: a block is identified by its position
            key={place}
            block={block}
            live={props.live && place === props.blocks.length - 1}
            actions={props.actions}
            later={place < props.later}
          />
        ))}
      </div>
    );
  },
  // A drawn block stays, whatever number of blocks follows.
  (before, now) => before.blocks === now.blocks && before.live === now.live,
);

/**
 * `later`: the block is one of many in a complete text. It shows its source, and is drawn when it comes near the
 * viewport.
 */
const DrawnBlock = memo(function DrawnBlock(props: {
  block: Block;
  live: boolean;
  actions: CodeAction[] | undefined;
  later: boolean;
}) {
  const { block, live, actions } = props;
  const place = useRef<HTMLDivElement>(null);
  const waits = useRef(props.later && CSS.supports("content-visibility", "auto"));
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = () => {
      waits.current = false;
      element.innerHTML = block.html;
      finish(element, live, actions);
    };
    if (!waits.current) return draw();
    element.textContent = block.source;
    const onChange = (event: Event) => {
      if (waits.current && !(event as ContentVisibilityAutoStateChangeEvent).skipped) draw();
    };
    element.addEventListener("contentvisibilityautostatechange", onChange);
    return () => element.removeEventListener("contentvisibilityautostatechange", onChange);
  }, [block, live, actions]);
  return <div ref={place} />;
});

/** Adds what HTML alone cannot express: buttons and colours of code, formulas, clickable numbers. */
function finish(element: Element, live: boolean, actions: CodeAction[] = []): void {
  for (const link of element.querySelectorAll("a[href]")) {
    link.setAttribute("target", "_blank");
    link.setAttribute("rel", "noopener noreferrer");
  }
  for (const cite of element.querySelectorAll("[data-cite]")) {
    cite.setAttribute("role", "button");
    cite.setAttribute("tabindex", "0");
    cite.setAttribute("aria-label", t("cite.open", { number: cite.textContent ?? "" }));
  }
  for (const mark of element.querySelectorAll<HTMLElement>("[data-reason]"))
    mark.textContent = t(`unsupported.${mark.dataset.reason as Reason}`);
  for (const task of element.querySelectorAll(".task")) {
    task.setAttribute("role", "img");
    task.setAttribute("aria-label", t(task.matches(".done") ? "task.done" : "task.open"));
  }
  for (const table of element.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "wide";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const pre of element.querySelectorAll<HTMLElement>("pre.code")) dress(pre, live, actions);
  const formulas = element.querySelectorAll<HTMLElement>("[data-math]");
  if (formulas.length) {
    for (const formula of formulas) formula.textContent = formula.dataset.math ?? "";
    formulaCode ??= import("./formula");
    formulaCode.then(({ draw }) => {
      for (const formula of formulas) draw(formula);
    });
  }
}

function dress(pre: HTMLElement, live: boolean, actions: CodeAction[]): void {
  const code = pre.querySelector("code");
  if (!code) return;
  const named = pre.dataset.language ?? "";
  const frame = document.createElement("div");
  frame.className = "codebox";
  const head = document.createElement("div");
  head.className = "codehead";
  const label = document.createElement("span");
  label.textContent = named || t("code.plain");
  const text = code.textContent ?? "";
  const copy = headButton(t("copy"), async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = t("copied");
  });
  const buttons = (live ? [] : actions)
    .filter((action) => action.fits(named, text))
    .map((action) => headButton(action.label(), () => action.does(named, text)));
  const marks: Element[] = [];
  for (let next = pre.nextElementSibling; next?.matches("[data-reason]"); next = next.nextElementSibling)
    marks.push(next);
  head.append(label, ...marks, ...buttons, copy);
  pre.tabIndex = 0;
  pre.replaceWith(frame);
  frame.append(head, pre);
  if (live) return;
  if (named === "mermaid") drawFlow(pre);
  else if (named) {
    colourCode ??= import("./colours");
    colourCode.then(({ colour }) => colour(code, named));
  }
}

function headButton(label: string, onClick: () => void): HTMLButtonElement {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = label;
  button.addEventListener("click", onClick);
  return button;
}

/** Replaces the source of a diagram by the diagram, with the source collapsed below. Other sources get a reason. */
async function drawFlow(pre: HTMLElement): Promise<void> {
  const written = pre.textContent ?? "";
  let reason = t("code.noDiagram");
  try {
    flowchartCode ??= import("./flowchart");
    const { read, said, draw, otherKind } = await flowchartCode;
    const kind = otherKind(written);
    if (kind) reason = t("code.otherDiagram", { kind });
    const chart = read(written);
    if (!chart) throw new Error("no flowchart");
    const place = document.createElement("div");
    place.className = "wide";
    place.tabIndex = 0;
    place.append(draw(chart, t("code.diagram", { nodes: said(chart) })));
    const source = document.createElement("details");
    source.append(document.createElement("summary"));
    source.children[0]?.append(t("code.source"));
    pre.replaceWith(place, source);
    source.append(pre);
  } catch {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = reason;
    pre.before(note);
  }
}
