// The chunks of a document in one group of its store, marked in its text.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { json, part, rows } from "../api";
import { fileText, kindOf, LinkedPassages, placeOf, SourceMedia, unitsOf } from "../chat/source";
import { count, placeLabel } from "../format";
import { Dialog, Trouble, useLoaded } from "../parts/ui";
import type { Passage } from "../passage";
import { go, link } from "../route";
import type { FileChunk, Store, StoreFile } from "../types";
import { t } from "../words/words";

const PIECES_SHOWN = 200;
const MAX_PIECES = 1_000;
const LABEL_CHARS = 120;
/** Characters of the text shown before and after the selected chunk. */
const REACH_CHARS = 20_000;

const NO_PIECES: FileChunk[] = [];

/** A stretch of text and the list positions of the chunks that contain it. */
export interface Stretch {
  start: number;
  end: number;
  within: number[];
}

/** Splits a text from `from` to `to` wherever one of the `spans` begins or ends. */
export function stretches(spans: (readonly [number, number] | null)[], from: number, to: number): Stretch[] {
  const inside = spans.flatMap((span, number) => {
    if (!span) return [];
    const [start, end] = [Math.max(span[0], from), Math.min(span[1], to)];
    return end > start ? [{ start, end, number }] : [];
  });
  const edges = new Set([from, to, ...inside.flatMap(({ start, end }) => [start, end])]);
  const sorted = [...edges].sort((one, other) => one - other);
  return sorted.slice(1).map((end, at) => {
    const start = sorted[at] ?? from;
    const within = inside.filter((span) => span.start <= start && span.end >= end);
    return { start, end, within: within.map(({ number }) => number) };
  });
}

export function View({ store, file }: { store: Store; file: StoreFile }) {
  const base = `/api/stores/${part(store.id)}`;
  const groups = useLoaded(() => rows<{ name: string }>(`${base}/groups`), `${base}/groups`);
  const [group, setGroup] = useState("");
  return (
    <Dialog title={file.filename} onClose={() => go(link("library", "documents", store.name))} side>
      <div class="actions spread">
        {groups.value && groups.value.length > 1 && (
          <label class="check">
            <span>{t("files.group")}</span>
            <select name="group" value={group} onChange={(event) => setGroup(event.currentTarget.value)}>
              {groups.value.map((each, number) => (
                <option key={each.name} value={number ? each.name : ""}>
                  {each.name}
                </option>
              ))}
            </select>
          </label>
        )}
        <a href={link("library", "documents", store.name, "chunkers", file.id)}>{t("chunkers.title")}</a>
      </div>
      <Trouble error={file.error ?? groups.error} retry={groups.retry} />
      <Pieces key={group} store={store} file={file} group={group} />
    </Dialog>
  );
}

function Pieces({ store, file, group }: { store: Store; file: StoreFile; group: string }) {
  const [most, setMost] = useState(PIECES_SHOWN);
  const [chosen, setChosen] = useState(0);
  const [asText, setAsText] = useState(false);
  const path = `/api/stores/${part(store.id)}/files/${part(file.id)}/chunks?limit=${most}${group && `&group=${part(group)}`}`;
  const found = useLoaded(() => json<{ data: FileChunk[]; has_more: boolean }>(path), path);
  const text = useLoaded(() => fileText(store.id, file.id), file.id);
  const pieces = found.value?.data ?? NO_PIECES;
  const piece = pieces[chosen];
  const passage: Passage | null = piece
    ? {
        store: store.name,
        file_id: file.id,
        filename: file.filename,
        text: piece.text,
        place: piece.place,
        rank: 0,
        score: 0,
      }
    : null;
  const kind = passage ? kindOf(passage) : "text";
  return (
    <>
      <div class="actions spread">
        <span class="soft">{found.value && t("files.chunks", { count: count(pieces.length) })}</span>
        {kind !== "text" && (
          <button type="button" class="quiet" onClick={() => setAsText(!asText)}>
            {asText ? t(`source.${kind}`) : t("source.asText")}
          </button>
        )}
      </div>
      <Trouble error={found.error} retry={found.retry} />
      <ol class="pieces" aria-label={t("chunkers.chunks")}>
        {pieces.map((each, number) => (
          <li key={each.chunk}>
            <button
              type="button"
              class="quiet"
              aria-current={number === chosen ? "true" : undefined}
              onClick={() => setChosen(number)}
            >
              <span class="soft">
                {[each.number + 1, placeLabel(each.place)].filter(Boolean).join(" · ")}
              </span>{" "}
              {each.text.slice(0, LABEL_CHARS)}
            </button>
          </li>
        ))}
        {found.value?.has_more && most === PIECES_SHOWN && (
          <li>
            <button type="button" onClick={() => setMost(MAX_PIECES)}>
              {t("more")}
            </button>
          </li>
        )}
      </ol>
      {passage && kind !== "text" && !asText ? (
        <SourceMedia key={chosen} passage={passage} kind={kind} onFail={() => setAsText(true)} />
      ) : (
        <>
          <Trouble error={text.error} retry={text.retry} />
          {text.value !== null && (
            <MarkedText text={text.value} pieces={pieces} chosen={chosen} onChoose={setChosen} />
          )}
        </>
      )}
      {piece && (
        <LinkedPassages key={piece.chunk} store={store.id} file={file.id} start={piece.place.start ?? 0} />
      )}
    </>
  );
}

/** The text around the selected chunk with all chunks marked. A click selects a chunk. */
function MarkedText(props: {
  text: string;
  pieces: FileChunk[];
  chosen: number;
  onChoose: (number: number) => void;
}) {
  const { text, pieces, chosen, onChoose } = props;
  const place = useRef<HTMLElement>(null);
  const spans = useMemo(() => {
    const units = unitsOf(text);
    return pieces.map((piece) => placeOf(text, piece, units));
  }, [text, pieces]);
  const [start, end] = spans[chosen] ?? [0, 0];
  const [from, to] = [Math.max(0, start - REACH_CHARS), Math.min(text.length, end + REACH_CHARS)];
  // biome-ignore lint/correctness/useExhaustiveDependencies: runs when another chunk is selected or the text has loaded
  useEffect(() => {
    place.current?.querySelector(".chosen")?.scrollIntoView({ block: "center" });
  }, [chosen, text, pieces.length]);
  const lacks = pieces[chosen] !== undefined && !spans[chosen];
  return (
    <>
      {lacks && (
        <>
          <p class="soft">{t("files.notInText")}</p>
          <blockquote>{pieces[chosen]?.text}</blockquote>
        </>
      )}
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: the list above offers the same by keyboard */}
      <section
        class="document marked"
        ref={place}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard
        tabIndex={0}
        aria-label={t("source.text")}
        onClick={(event) => {
          const mark = event.target instanceof Element ? event.target.closest("[data-piece]") : null;
          if (mark) onChoose(Number(mark.getAttribute("data-piece")));
        }}
      >
        {from > 0 && "… "}
        {stretches(spans, from, to).map((each) => {
          const words = text.slice(each.start, each.end);
          const [first] = each.within;
          if (first === undefined) return words;
          const isChosen = each.within.includes(chosen);
          return (
            <mark
              key={each.start}
              data-piece={isChosen ? chosen : first}
              title={each.within.map((number) => t("files.piece", { number: number + 1 })).join(", ")}
              class={[
                first % 2 ? "odd" : "even",
                each.within.length > 1 ? "overlap" : "",
                isChosen ? "chosen" : "",
              ].join(" ")}
            >
              {words}
            </mark>
          );
        })}
        {to < text.length && " …"}
      </section>
    </>
  );
}
