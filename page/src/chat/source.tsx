// The document that a citation means, opened at the passage.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { json, part, send } from "../api";
import { placeLabel } from "../format";
import { Dialog, Trouble, useLoaded, useWork } from "../parts/ui";
import type { Passage } from "../types";
import { t } from "../words/words";

export const source = signal<Passage | null>(null);

/** The text of a file in three parts: before the passage, the passage, behind it. */
export function around(text: string, passage: Pick<Passage, "text" | "place">): [string, string, string] {
  const { start = 0, end = 0 } = passage.place;
  const wanted = plain(passage.text);
  if (end > start && plain(text.slice(start, end)) === wanted) return cutAt(text, start, end);
  const exact = text.indexOf(passage.text);
  if (exact >= 0) return cutAt(text, exact, exact + passage.text.length);
  // The spaces may differ: look for the words.
  const pattern = passage.text.trim().split(/\s+/).map(escapePattern).join("\\s+");
  const found = pattern ? new RegExp(pattern).exec(text) : null;
  return found ? cutAt(text, found.index, found.index + found[0].length) : [text, "", ""];
}

function plain(text: string): string {
  return text.split(/\s+/).filter(Boolean).join(" ");
}

function escapePattern(word: string): string {
  return word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

function cutAt(text: string, start: number, end: number): [string, string, string] {
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

async function fileText(store: string, file: string): Promise<string> {
  const path = `/v1/vector_stores/${part(store)}/files/${part(file)}/content`;
  const page = await json<{ data: { text: string }[] }>(path);
  return page.data.map((piece) => piece.text).join("");
}

/** PDF files open in a tab at their page; anything else is kept as a file, for a page of ours it must not become. */
async function openFile(passage: Passage): Promise<void> {
  const response = await send(`/v1/files/${part(passage.file_id)}/content`);
  const content = await response.blob();
  const isPdf = passage.filename.toLowerCase().endsWith(".pdf");
  const url = URL.createObjectURL(
    new Blob([content], { type: isPdf ? "application/pdf" : "application/octet-stream" }),
  );
  const anchor = document.createElement("a");
  anchor.rel = "noopener";
  if (isPdf) {
    anchor.href = `${url}#page=${passage.place.page ?? 1}`;
    anchor.target = "_blank";
  } else {
    anchor.href = url;
    anchor.download = passage.filename;
  }
  anchor.click();
}

export function SourcePanel() {
  const passage = source.value;
  if (!passage) return null;
  return <OpenSource key={`${passage.file_id} ${passage.rank}`} passage={passage} />;
}

function OpenSource({ passage }: { passage: Passage }) {
  const mark = useRef<HTMLElement>(null);
  const [busy, error, work] = useWork();
  const text = useLoaded(() => fileText(passage.store, passage.file_id), passage.file_id);
  const [before, marked, behind] = around(text.value ?? "", passage);
  useEffect(() => {
    if (text.value !== null) mark.current?.scrollIntoView({ block: "center" });
  }, [text.value]);
  const close = () => {
    source.value = null;
  };
  return (
    <Dialog title={passage.filename} onClose={close} side>
      <div class="actions spread">
        <span class="soft">{[passage.store, placeLabel(passage.place)].filter(Boolean).join(" · ")}</span>
        <button type="button" disabled={busy} onClick={() => work(() => openFile(passage))}>
          {t("source.open")}
        </button>
      </div>
      <Trouble error={error || text.error} retry={text.reload} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard */}
      <section class="document" tabIndex={0} aria-label={t("source.text")}>
        {before}
        <mark ref={mark}>{marked || (text.value === null || text.error ? passage.text : "")}</mark>
        {behind}
      </section>
    </Dialog>
  );
}
