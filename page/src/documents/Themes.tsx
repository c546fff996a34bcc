// What a store is about: its themes, its most mentioned names, and the pairs of names that occur together. Each theme
// and each name is a button that searches the store for it.

import { Graph, layout } from "@dagrejs/dagre";
import { useEffect, useRef, useState } from "preact/hooks";
import { json, part } from "../api";
import { count } from "../format";
import { widthOf } from "../parts/flowchart";
import { Empty, Skeleton, Trouble, useLoaded } from "../parts/ui";
import type { Passage } from "../passage";
import type { MentionedName, NamePair, Store, StoreThemes } from "../types";
import { t, type Word } from "../words/words";
import { PassageList } from "./PassageList";

const MAX_PASSAGES = 10;
const NODE_HEIGHT = 48;
const NODE_PADDING = 32;
const MARGIN = 4;
const BOLD_SCALE = 1.1;
const MAX_LINE_WIDTH = 4;

export function View({ store }: { store: Store }) {
  const path = `/api/stores/${part(store.id)}/themes`;
  const { value, error, retry } = useLoaded(() => json<StoreThemes>(path), path);
  const [query, setQuery] = useState("");
  return (
    <>
      <h1>{t("themes.title")}</h1>
      <Trouble error={error} retry={retry} />
      {!value && !error && <Skeleton />}
      {value && !value.themes.length && (
        <Empty title={t("themes.none")}>
          <p class="soft">{t("themes.noneNote")}</p>
        </Empty>
      )}
      {value && value.themes.length > 0 && (
        <>
          <p class="soft">{t("themes.does")}</p>
          <ThemeAreas themes={value} query={query} onChoose={setQuery} />
          {value.examined_count < value.passage_count && (
            <p class="soft">
              {t("themes.examined", {
                examined: count(value.examined_count),
                count: count(value.passage_count),
              })}
            </p>
          )}
        </>
      )}
      {value && value.names.length > 0 && (
        <>
          <h2>{t("themes.names")}</h2>
          {value.pairs.length > 0 && <p class="soft">{t("themes.pairs")}</p>}
          <Names names={value.names} pairs={value.pairs} query={query} onChoose={setQuery} />
        </>
      )}
      {query && <Passages key={query} store={store} query={query} />}
    </>
  );
}

/** The themes as areas, each as wide as its number of passages requires. */
function ThemeAreas(props: { themes: StoreThemes; query: string; onChoose: (query: string) => void }) {
  return (
    <ul class="themes" aria-label={t("themes.title")}>
      {props.themes.themes.map((theme) => {
        const words = theme.words.join(" ");
        return (
          <li key={words} style={{ flexGrow: theme.passage_count }}>
            <button type="button" aria-pressed={words === props.query} onClick={() => props.onChoose(words)}>
              <strong>{theme.words.join(" · ")}</strong>
              <span class="soft">
                {t("themes.counts", { passages: count(theme.passage_count), files: count(theme.file_count) })}
              </span>
            </button>
          </li>
        );
      })}
    </ul>
  );
}

/** The names with lines between the pairs; names without a pair are below. */
function Names(props: {
  names: MentionedName[];
  pairs: NamePair[];
  query: string;
  onChoose: (query: string) => void;
}) {
  const { names, pairs, query, onChoose } = props;
  const drawing = place(names, pairs);
  const mostPassages = Math.max(...pairs.map((pair) => pair.passage_count));
  const partners = new Set(pairs.filter((pair) => pair.names.includes(query)).flatMap((pair) => pair.names));
  const button = (item: MentionedName) => (
    <NameButton
      item={item}
      pairs={pairs}
      isChosen={item.name === query}
      isPartner={partners.has(item.name)}
      onChoose={onChoose}
    />
  );
  const others = names.filter((item) => !drawing.nodes.has(item.name));
  return (
    <>
      {drawing.nodes.size > 0 && (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard
        <section class="wide" tabIndex={0} aria-label={t("themes.pairs")}>
          <div class="namedrawing" style={{ width: `${drawing.width}px`, height: `${drawing.height}px` }}>
            <svg width={drawing.width} height={drawing.height} aria-hidden="true">
              {drawing.lines.map(({ pair, points }) => (
                <polyline
                  key={pair.names.join()}
                  points={points}
                  stroke-width={(MAX_LINE_WIDTH * pair.passage_count) / mostPassages}
                  class={pair.names.includes(query) ? "partner" : ""}
                />
              ))}
            </svg>
            {names.map((item) => {
              const node = drawing.nodes.get(item.name);
              if (!node) return null;
              const left = node.x - node.width / 2;
              const style = {
                left: `${left}px`,
                top: `${node.y - NODE_HEIGHT / 2}px`,
                width: `${node.width}px`,
              };
              return (
                <div key={item.name} style={style}>
                  {button(item)}
                </div>
              );
            })}
          </div>
        </section>
      )}
      {others.length > 0 && (
        <ul class="names" aria-label={t("themes.names")}>
          {others.map((item) => (
            <li key={item.name}>{button(item)}</li>
          ))}
        </ul>
      )}
    </>
  );
}

function NameButton(props: {
  item: MentionedName;
  pairs: NamePair[];
  isChosen: boolean;
  isPartner: boolean;
  onChoose: (query: string) => void;
}) {
  const { item, pairs, isChosen, isPartner, onChoose } = props;
  const together = pairs
    .filter((pair) => pair.names.includes(item.name))
    .map((pair) => `${pair.names.find((name) => name !== item.name)} (${count(pair.passage_count)})`);
  return (
    <button
      type="button"
      class={isPartner ? "partner" : ""}
      aria-pressed={isChosen}
      title={together.length ? t("themes.together", { names: together.join(", ") }) : undefined}
      onClick={() => onChoose(item.name)}
    >
      <strong>{item.name}</strong>
      <span class="soft">{noteOf(item)}</span>
    </button>
  );
}

function noteOf(item: MentionedName): string {
  return `${t(`themes.kind.${item.kind}` as Word)} · ${count(item.passage_count)}`;
}

function Passages({ store, query }: { store: Store; query: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  const body = { query, max_num_results: MAX_PASSAGES };
  const found = useLoaded(
    () => json<{ data: Passage[] }>(`/api/stores/${part(store.id)}/search`, { json: body }),
    query,
  );
  // biome-ignore lint/correctness/useExhaustiveDependencies: the passages below the heading must be in sight too
  useEffect(() => heading.current?.scrollIntoView({ block: "nearest" }), [found.value]);
  return (
    <section id="themepassages" aria-live="polite">
      <h2 ref={heading}>{t("themes.passages", { query })}</h2>
      <Trouble error={found.error} retry={found.retry} />
      {found.value && !found.value.data.length && <p class="soft">{t("search.none")}</p>}
      <PassageList passages={found.value?.data ?? []} />
    </section>
  );
}

interface Node {
  x: number;
  y: number;
  width: number;
}

/** Returns the positions of the names that have a pair, and of the lines between them. */
function place(names: MentionedName[], pairs: NamePair[]) {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 16, ranksep: 48, marginx: MARGIN, marginy: MARGIN });
  const paired = new Set(pairs.flatMap((pair) => pair.names));
  for (const item of names.filter(({ name }) => paired.has(name))) {
    graph.setNode(item.name, {
      width: widthOf([item.name, noteOf(item)]) * BOLD_SCALE + NODE_PADDING,
      height: NODE_HEIGHT,
    });
  }
  for (const pair of pairs) graph.setEdge(...pair.names, {});
  layout(graph);
  const edges = pairs.map((pair) => {
    const { points } = graph.edge(...pair.names) as unknown as { points: { x: number; y: number }[] };
    return { pair, points };
  });
  const nodes = new Map([...paired].map((name) => [name, graph.node(name) as unknown as Node]));
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  // The layout counts only the nodes, so lines around them can be above or below its area.
  const rows = edges.flatMap(({ points }) => points.map(({ y }) => y));
  const top = Math.min(0, ...rows.map((y) => y - MARGIN));
  for (const node of nodes.values()) node.y -= top;
  return {
    width,
    height: Math.max(height, ...rows.map((y) => y + MARGIN)) - top,
    nodes,
    lines: edges.map(({ pair, points }) => ({
      pair,
      points: points.map(({ x, y }) => `${x},${y - top}`).join(" "),
    })),
  };
}
