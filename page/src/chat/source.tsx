// The document of a citation, opened at the passage.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { json, part, send } from "../api";
import { placeLabel } from "../format";
import { Dialog, Trouble, useLoaded, useWork } from "../parts/ui";
import type { Passage } from "../passage";
import { status } from "../status";
import type { LinkedPassage } from "../types";
import { t } from "../words/words";
import { claimsOn, evidenceIn, type Span } from "./evidence";

const MAX_PASSAGE_CHARS = 20_000;

/** A passage with the spans that the answer quotes. */
type OpenPassage = Passage & { quotes?: Span[] };

export const source = signal<OpenPassage | null>(null);

const QUOTED_BLOCK = /(?:^>.*(?:\n|$))+/gm;
const TABLE_LINE = /^\s*\|/;
const TABLE_RULE = /^[\s|:-]+$/;

/**
 * Returns the spans of a passage to mark: the quote that the daemon reports, or else the answer's quotations with the
 * passage's number, or else the sentence of the passage that supports the cited sentence of the answer. `nth` counts
 * the answer's citations with this number; the reader chose the one at this position.
 */
export function quotesOf(answer: string, passage: Passage, nth = 0): Span[] {
  if (passage.quote) {
    const units = unitsOf(passage.text);
    return [[units(passage.quote[0]), units(passage.quote[1])]];
  }
  const number = new RegExp(`\\s*\\[${passage.rank}\\]\\s*$`);
  const spans = [...answer.matchAll(QUOTED_BLOCK)].flatMap(([block]) => {
    const lines = block.trimEnd().split("\n");
    const text = lines.map((line) => line.replace(/^> ?/, "")).join("\n");
    if (!number.test(text)) return [];
    const found = quotedIn(passage.text, text.replace(number, ""));
    return found ? [found] : [];
  });
  if (spans.length) return spans.sort(([one], [other]) => one - other);
  const claims = claimsOn(answer, passage.rank);
  const claim = claims[nth];
  const found = claim ? evidenceIn(passage.text, claim) : null;
  return found ? [found] : [];
}

/**
 * Returns the span of a quotation in a passage. For a table, it covers the rows; for a sentence with an introduction,
 * it covers only the sentence.
 */
function quotedIn(passage: string, quotation: string): Span | null {
  const rows = quotation.split("\n").filter((line) => TABLE_LINE.test(line));
  const rule = rows.findIndex((line) => TABLE_RULE.test(line));
  const written = rows.length ? rows.slice(rule < 0 ? -1 : rule + 1).join("\n") : quotation;
  const last = quotation.split("\n\n").at(-1) ?? "";
  return wordsIn(passage, written) ?? wordsIn(passage, last);
}

function wordsIn(text: string, words: string): Span | null {
  const pattern = words.trim().split(/\s+/).map(escapePattern).join("\\s+");
  const found = pattern ? new RegExp(pattern).exec(text) : null;
  return found ? [found.index, found.index + found[0].length] : null;
}

/** Maps spans to a text with the same words as `passage` but possibly other whitespace. */
function quotesWithin(text: string, passage: string, quotes: Span[]): Span[] {
  return quotes.flatMap(([start, end]) => {
    const found = wordsIn(text, passage.slice(start, end));
    return found ? [found] : [];
  });
}

/** A text with some spans marked. The spans are sorted. */
export function Marked({ text, spans }: { text: string; spans: Span[] }) {
  const pieces: ComponentChildren[] = [];
  let from = 0;
  for (const [start, end] of spans) {
    if (start < from || end > text.length) continue;
    pieces.push(text.slice(from, start), <mark key={start}>{text.slice(start, end)}</mark>);
    from = end;
  }
  return (
    <>
      {pieces}
      {text.slice(from)}
    </>
  );
}

/** Splits the text of a file into the part before the passage, the passage, and the part after it. */
export function around(text: string, passage: Pick<Passage, "text" | "place">): [string, string, string] {
  const [start, end] = placeOf(text, passage) ?? [text.length, text.length];
  return [text.slice(0, start), text.slice(start, end), text.slice(end)];
}

/**
 * Returns the span of a passage in the text of its file, by its position or by its words. Returns null if the text does
 * not contain it.
 */
export function placeOf(
  text: string,
  passage: Pick<Passage, "text" | "place">,
  units: (character: number) => number = unitsOf(text),
): [number, number] | null {
  const [start, end] = [units(passage.place.start ?? 0), units(passage.place.end ?? 0)];
  if (end > start && plain(text.slice(start, end)) === plain(passage.text)) return [start, end];
  const exact = passage.text ? text.indexOf(passage.text) : -1;
  if (exact >= 0) return [exact, exact + passage.text.length];
  return wordsIn(text, passage.text); // whitespace may differ
}

/** Returns a function that maps a character offset, as the daemon counts, to a UTF-16 offset of the string. */
export function unitsOf(text: string): (character: number) => number {
  const wide = [...text.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)].map(
    ({ index }, number) => index - number,
  );
  if (!wide.length) return (character) => character;
  return (character) => {
    let [low, high] = [0, wide.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((wide[middle] ?? 0) < character) low = middle + 1;
      else high = middle;
    }
    return character + low;
  };
}

function plain(text: string): string {
  return text.split(/\s+/).filter(Boolean).join(" ");
}

function escapePattern(word: string): string {
  return word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

export async function fileText(store: string, file: string): Promise<string> {
  const path = `/v1/vector_stores/${part(store)}/files/${part(file)}/content`;
  const page = await json<{ data: { text: string }[] }>(path);
  return page.data.map((piece) => piece.text).join("");
}

/** Opens a PDF in a tab at its page. Any other file is downloaded, because it must not become a page of this origin. */
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

/** Returns the text to mark on a page: the first quoted span, or the whole passage. */
function markedText(passage: OpenPassage): string {
  const [span] = passage.quotes ?? [];
  return span ? passage.text.slice(...span) : passage.text;
}

/** Returns the URL of an image of a PDF page with the passage marked. Throws an error if there is no such page. */
async function pageOf(passage: OpenPassage): Promise<string> {
  const path = `/api/stores/${part(passage.store)}/files/${part(passage.file_id)}/page`;
  const response = await send(path, {
    json: { page: passage.place.page, passage: markedText(passage).slice(0, MAX_PASSAGE_CHARS) },
  });
  return URL.createObjectURL(await response.blob());
}

/** Returns the URL of a recording that starts at the second of the passage. */
async function recordingOf(passage: Passage): Promise<string> {
  const response = await send(`/v1/files/${part(passage.file_id)}/content`);
  return `${URL.createObjectURL(await response.blob())}#t=${passage.place.seconds ?? 0}`;
}

export type Kind = "page" | "recording" | "text";

export function kindOf(passage: Passage): Kind {
  const { page, seconds } = passage.place;
  if (page && /\.pdf$/i.test(passage.filename)) return "page";
  if (seconds !== null && seconds !== undefined && !/\.(srt|vtt)$/i.test(passage.filename))
    return "recording";
  return "text";
}

export function SourcePanel() {
  const passage = source.value;
  if (!passage) return null;
  return <OpenSource key={`${passage.file_id} ${passage.rank} ${passage.place.start}`} passage={passage} />;
}

function OpenSource({ passage }: { passage: OpenPassage }) {
  const [busy, error, work] = useWork();
  const [asText, setAsText] = useState(false);
  const kind = asText ? "text" : kindOf(passage);
  const close = () => {
    source.value = null;
  };
  return (
    <Dialog title={passage.filename} onClose={close} side>
      <div class="actions spread">
        <span class="soft">{[passage.store, placeLabel(passage.place)].filter(Boolean).join(" · ")}</span>
        <span class="actions">
          {kindOf(passage) !== "text" && (
            <button type="button" class="quiet" onClick={() => setAsText(!asText)}>
              {asText ? t(`source.${kindOf(passage)}`) : t("source.asText")}
            </button>
          )}
          <button type="button" disabled={busy} onClick={() => work(() => openFile(passage))}>
            {t("source.open")}
          </button>
        </span>
      </div>
      <Trouble error={error} />
      {kind === "text" ? (
        <SourceText passage={passage} />
      ) : (
        <SourceMedia passage={passage} kind={kind} onFail={() => setAsText(true)} />
      )}
      <LinkedPassages store={passage.store} file={passage.file_id} start={passage.place.start ?? 0} />
    </Dialog>
  );
}

function SourceText({ passage }: { passage: OpenPassage }) {
  const place = useRef<HTMLSpanElement>(null);
  const text = useLoaded(() => fileText(passage.store, passage.file_id), passage.file_id);
  const [before, found, behind] = around(text.value ?? "", passage);
  const shown = found || (text.value === null || text.error ? passage.text : "");
  const quotes = passage.quotes ?? [];
  useEffect(() => {
    if (text.value === null) return;
    (place.current?.querySelector("mark") ?? place.current)?.scrollIntoView({ block: "center" });
  }, [text.value]);
  return (
    <>
      <Trouble error={text.error} retry={text.retry} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document" tabIndex={0} aria-label={t("source.text")}>
        {before}
        <span class="passage" ref={place}>
          <Marked text={shown} spans={quotes.length ? quotesWithin(shown, passage.text, quotes) : []} />
        </span>
        {behind}
      </section>
    </>
  );
}

/**
 * The page, or the recording at its second, with the passage below. Falls back to the text if the daemon has neither.
 */
export function SourceMedia(props: { passage: OpenPassage; kind: "page" | "recording"; onFail: () => void }) {
  const { passage, kind, onFail } = props;
  const found = useLoaded(async () => {
    try {
      return await (kind === "page" ? pageOf(passage) : recordingOf(passage));
    } catch {
      onFail();
      return "";
    }
  }, `${kind} ${passage.file_id}`);
  useEffect(() => {
    const address = found.value;
    return () => {
      if (address) URL.revokeObjectURL(address.split("#")[0] ?? "");
    };
  }, [found.value]);
  if (!found.value) return <span class="dots" aria-hidden="true" />;
  return (
    <>
      {kind === "page" ? (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard
        <section class="document drawnpage" tabIndex={0} aria-label={t("source.page")}>
          <img src={found.value} alt={markedText(passage)} />
        </section>
      ) : (
        <>
          {/* biome-ignore lint/a11y/useMediaCaption: the transcript is shown below */}
          <audio class="made" controls src={found.value} />
          <blockquote>
            <Marked text={passage.text} spans={passage.quotes ?? []} />
          </blockquote>
        </>
      )}
    </>
  );
}

const NEIGHBOURS_SHOWN = 20;
const MAX_NEIGHBOURS = 100;

type LinkKind = "name" | "code" | "reference" | "file";

interface At {
  /** The name or id of the store. */
  store: string;
  file: string;
  /** The offset of a character of the file that the passage contains. */
  start: number;
}

/** The passages linked to another passage, if the store has links. They are loaded when the list is opened. */
export function LinkedPassages(at: At) {
  const [opened, setOpened] = useState(false);
  const store = status.value?.stores.find((each) => each.id === at.store || each.name === at.store);
  if (!store?.links) return null;
  return (
    <details class="aside linked" onToggle={(event) => setOpened(event.currentTarget.open)}>
      <summary>{t("links.passages")}</summary>
      {opened && <Neighbours {...at} />}
    </details>
  );
}

function Neighbours({ store, file, start }: At) {
  const [most, setMost] = useState(NEIGHBOURS_SHOWN);
  const path = `/api/stores/${part(store)}/links?file=${part(file)}&start=${start}&limit=${most}`;
  const found = useLoaded(() => json<{ data: LinkedPassage[]; has_more: boolean }>(path), path);
  const { value } = found;
  return (
    <>
      <Trouble error={found.error} retry={found.retry} />
      {value && !value.data.length && <p class="soft">{t("links.none")}</p>}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section tabIndex={0} aria-label={t("links.passages")}>
        <ul>
          {value?.data.map((each) => (
            <li key={each.chunk}>
              <button
                type="button"
                class="link"
                onClick={() => {
                  source.value = { ...each, store, rank: 0, score: 0 };
                }}
              >
                {[each.filename, placeLabel(each.place)].filter(Boolean).join(" · ")}
              </button>{" "}
              <span class="soft">{t(`links.${each.kind as LinkKind}`, { term: each.term })}</span>
              <blockquote>{each.text}</blockquote>
            </li>
          ))}
        </ul>
      </section>
      {value?.has_more && most < MAX_NEIGHBOURS && (
        <button type="button" onClick={() => setMost(MAX_NEIGHBOURS)}>
          {t("more")}
        </button>
      )}
    </>
  );
}
