// What every view is: its part of the page once the host has shaken hands, and what is said while it waits.

import { type ComponentChildren, render } from "preact";
import { calls, cancelled, connect, input, result, type ToolResult, textOf, tool } from "./host";
import { Questions } from "./Questions";
import "./view.css";
import { t } from "./words";

/** Tools that were made for views: their calls ask nothing. */
const OWN = "portico_";

/** While a call runs, what it asks; then what `children` make of its answer. */
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

/** Frames of hosts need not allow forms, and a browser tells nobody of one that is sent there: so it is not sent. */
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
