import { memo } from "preact/compat";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Reason, Unsupported } from "../claims";
import { t } from "../words/words";
import { type Block, Draft } from "./markdown";

/** Of a text that is longer, what is not seen is not laid out. */
const DRAWN_AT_ONCE = 40;
/** Of a long text that is there at once, so much is read in a frame. */
const READ_AT_ONCE_CHARS = 20_000;

/** What a model wrote. `cited`: the numbers that stand for a passage; `onCite` is called with the one chosen.
 * `unsupported`: the sentences to mark.
 */
export function Markdown(props: {
  text: string;
  cited?: number[];
  unsupported?: Unsupported[];
  live?: boolean;
  onCite?: (number: number) => void;
}) {
  const cite = (event: Event) => {
    const chosen = (event.target as Element).closest("[data-cite]");
    if (!chosen || !props.onCite) return;
    if (event instanceof KeyboardEvent && event.key !== "Enter") return;
    event.preventDefault();
    props.onCite(Number(chosen.getAttribute("data-cite")));
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
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the numbers within are the buttons
    <div class={found.length > DRAWN_AT_ONCE ? "markdown long" : "markdown"} onClick={cite} onKeyDown={cite}>
      {found.map((block, place) => (
        <DrawnBlock
          // biome-ignore lint/suspicious/noArrayIndexKey: a block is what stands at its place
          key={place}
          block={block}
          live={props.live === true && place === found.length - 1}
          later={place < found.length - DRAWN_AT_ONCE}
        />
      ))}
    </div>
  );
}

/** `later`: it is one of many that are there at once. It stands there as it was written, and is drawn when it comes near
 * what is seen.
 */
const DrawnBlock = memo(function DrawnBlock(props: { block: Block; live: boolean; later: boolean }) {
  const { block, live } = props;
  const place = useRef<HTMLDivElement>(null);
  const waits = useRef(props.later && CSS.supports("content-visibility", "auto"));
  useLayoutEffect(() => {
    const element = place.current;
    if (!element) return;
    const draw = () => {
      waits.current = false;
      element.innerHTML = block.html;
      finish(element, live);
    };
    if (!waits.current) return draw();
    element.textContent = block.source;
    const onChange = (event: Event) => {
      if (waits.current && !(event as ContentVisibilityAutoStateChangeEvent).skipped) draw();
    };
    element.addEventListener("contentvisibilityautostatechange", onChange);
    return () => element.removeEventListener("contentvisibilityautostatechange", onChange);
  }, [block, live]);
  return <div ref={place} />;
});

/** What cannot be said in HTML alone: code with its buttons and colours, formulas, numbers that can be chosen. */
function finish(element: Element, live: boolean): void {
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
  for (const table of element.querySelectorAll("table")) {
    const frame = document.createElement("div");
    frame.className = "wide";
    frame.tabIndex = 0;
    table.replaceWith(frame);
    frame.append(table);
  }
  for (const pre of element.querySelectorAll<HTMLElement>("pre.code")) dress(pre, live);
  const formulas = element.querySelectorAll<HTMLElement>("[data-math]");
  if (formulas.length) {
    for (const formula of formulas) formula.textContent = formula.dataset.math ?? "";
    import("./formula").then(({ draw }) => {
      for (const formula of formulas) draw(formula);
    });
  }
}

function dress(pre: HTMLElement, live: boolean): void {
  const code = pre.querySelector("code");
  if (!code) return;
  const named = pre.dataset.language ?? "";
  const frame = document.createElement("div");
  frame.className = "codebox";
  const head = document.createElement("div");
  head.className = "codehead";
  const label = document.createElement("span");
  label.textContent = named || t("code.plain");
  const copy = document.createElement("button");
  copy.type = "button";
  copy.className = "quiet";
  copy.textContent = t("copy");
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(code.textContent ?? "");
    copy.textContent = t("copied");
  });
  const marks: Element[] = [];
  for (let next = pre.nextElementSibling; next?.matches("[data-reason]"); next = next.nextElementSibling)
    marks.push(next);
  head.append(label, ...marks, copy);
  pre.tabIndex = 0;
  pre.replaceWith(frame);
  frame.append(head, pre);
  if (named && !live) import("./colours").then(({ colour }) => colour(code, named));
}
