// An answer with its sources, or the passages of a search: each as a quote, and for documents with pages also as its
// page with the passage marked.

import { useEffect, useState } from "preact/hooks";
import { placeLabel } from "../format";
import { useWork } from "../parts/work";
import type { Passage } from "../passage";
import { calls, callTool, textOf } from "./host";
import { show } from "./View";
import { t } from "./words";

const MAX_PASSAGE_CHARS = 20_000;
const MARK = /(\[\d{1,3}(?:, ?\d{1,3})*\])/;

interface Claim {
  start: number;
  end: number;
  supported: boolean;
  removed: boolean;
  evidence: { rank: number; start: number; end: number }[];
}

interface Answered {
  answer?: string;
  citations?: Passage[];
  passages?: Passage[];
  cited?: number[];
  claims?: Claim[];
}

/** Splits a text into pieces and returns whether each is marked. Offsets count characters. */
export function pieces(text: string, spans: { start: number; end: number }[]): [string, boolean][] {
  const letters = [...text];
  const made: [string, boolean][] = [];
  let from = 0;
  for (const { start, end } of [...spans].sort((one, other) => one.start - other.start)) {
    if (start < from || end <= start || end > letters.length) continue;
    made.push([letters.slice(from, start).join(""), false], [letters.slice(start, end).join(""), true]);
    from = end;
  }
  made.push([letters.slice(from).join(""), false]);
  return made.filter(([piece]) => piece);
}

function Source({ passage, spans }: { passage: Passage; spans: { start: number; end: number }[] }) {
  const [page, setPage] = useState("");
  const [busy, error, work] = useWork();
  const number = passage.place.page;
  const hasPage = Boolean(number) && /\.pdf$/i.test(passage.filename) && calls.value;
  const draw = () =>
    work(async () => {
      const found = await callTool("portico_page", {
        store: passage.store,
        file: passage.file_id,
        page: number,
        passage: passage.text.slice(0, MAX_PASSAGE_CHARS),
      });
      const picture = found.content?.find(
        (block) => block.type === "image" && block.mimeType === "image/png",
      );
      setPage(picture?.data ? `data:image/png;base64,${picture.data}` : "");
    });
  return (
    <li id={`source${passage.rank}`} value={passage.rank}>
      <strong>{passage.filename}</strong> <span class="soft">{placeLabel(passage.place)}</span>
      <blockquote>
        {pieces(passage.text, spans).map(([piece, marked], place) => {
          // biome-ignore lint/suspicious/noArrayIndexKey: a piece is identified by its position
          return marked ? <mark key={place}>{piece}</mark> : piece;
        })}
      </blockquote>
      {hasPage && !page && (
        <button type="button" disabled={busy} onClick={draw}>
          {t("source.page")}
        </button>
      )}
      {page && <img src={page} alt={passage.text} />}
      {error && <p class="bad">{error}</p>}
    </li>
  );
}

/** The text of an answer, in which each number links to its source. */
function Said({ text }: { text: string }) {
  return (
    <p class="said">
      {text.split(MARK).map((piece, place) => {
        const rank = place % 2 ? /\d+/.exec(piece)?.[0] : undefined;
        return rank ? (
          <button
            // biome-ignore lint/suspicious/noArrayIndexKey: a number is identified by its position
            key={place}
            type="button"
            class="cite"
            onClick={() => document.getElementById(`source${rank}`)?.scrollIntoView({ block: "nearest" })}
          >
            {piece}
          </button>
        ) : (
          piece
        );
      })}
    </p>
  );
}

function Citations({ found, text }: { found: Answered; text: string }) {
  const passages = found.passages ?? found.citations ?? [];
  const claims = found.claims ?? [];
  const cited = found.cited?.length ? passages.filter((each) => found.cited?.includes(each.rank)) : passages;
  const evidence = claims.flatMap((claim) => claim.evidence ?? []);
  const letters = [...(found.answer ?? "")];
  const without = claims.filter((claim) => !claim.supported && !claim.removed);
  useEffect(() => {
    document.title = t("answer.sources", { count: cited.length });
  });
  return (
    <>
      <Said text={found.answer ?? (passages.length ? "" : text)} />
      {without.length > 0 && (
        <>
          <p class="bad">{t("views.unsupported")}</p>
          <ul>
            {without.map((claim) => (
              <li key={claim.start}>{letters.slice(claim.start, claim.end).join("")}</li>
            ))}
          </ul>
        </>
      )}
      <ol class="sources">
        {cited.map((passage) => (
          <Source
            key={passage.rank}
            passage={passage}
            spans={evidence.filter((each) => each.rank === passage.rank)}
          />
        ))}
      </ol>
    </>
  );
}

show((found) => <Citations found={(found.structuredContent ?? {}) as Answered} text={textOf(found)} />);
