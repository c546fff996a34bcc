// The frame of every view: its element, and what it shows until the host has connected.

import { type ComponentChildren, render } from "preact";
import { calls, cancelled, connect, input, result, type ToolResult, textOf, tool } from "./host";
import { Questions } from "./Questions";
import "./view.css";
import { t } from "./words";

/** Prefix of tools that were made for views. Their calls ask no questions. */
const OWN = "portico_";

/** While a call is in progress, its questions; then its result, rendered by `children`. */
function View({ children }: { children: (found: ToolResult) => ComponentChildren }) {
  const found = result.value;
  if (found?.isError) return <p class="bad">{textOf(found)}</p>;
  if (found) return <>{children(found)}</>;
  if (cancelled.value) return <p class="soft">{t("views.cancelled")}</p>;
  return (
    <>
      <p class="soft" aria-busy="true">
        {t("views.working")}
      </p>
      {input.value && calls.value && !tool.value.startsWith(OWN) && <Questions />}
    </>
  );
}

/**
 * Frames of a host may not allow forms, and browsers block their submission silently. Forms are therefore not
 * submitted.
 */
function submit(event: MouseEvent): void {
  const button = event.target instanceof Element ? event.target.closest("button") : null;
  if (button?.type !== "submit" || !button.form) return;
  event.preventDefault();
  if (button.form.reportValidity()) button.form.dispatchEvent(new Event("submit", { cancelable: true }));
}

export function show(children: (found: ToolResult) => ComponentChildren): void {
  const holder = document.querySelector("main");
  if (holder) render(<View>{children}</View>, holder);
  addEventListener("click", submit);
  connect();
}
