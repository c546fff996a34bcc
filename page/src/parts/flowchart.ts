// Flowcharts in Mermaid syntax, drawn as SVG. Supported are the elements that flows use: nodes with their shapes,
// arrows with their labels, subgraphs. All of it is text: nothing in a source becomes markup, an address or a style.
// Other parts of the language, such as clicks, classes, styles and settings, are ignored.
//
// Source: https://mermaid.js.org/syntax/flowchart.html

import { Graph, layout } from "@dagrejs/dagre";

const MAX_SOURCE_CHARS = 20_000;
const MAX_LINE_CHARS = 2_000;
const MAX_NODES = 150;
const MAX_EDGES = 300;
const MAX_GROUPS = 40;
const MAX_SPANS = 2_000; // rows that all arrows pass together: the layout takes half a second for this number
const MAX_LABEL_CHARS = 200;
const LINE_CHARS = 28;
const LINE_HEIGHT = 18;
const CHAR_WIDTH = 8;
const WIDE_CHAR_WIDTH = 15;
const PADDING = 12;
const SVG = "http://www.w3.org/2000/svg";

export type Shape = "box" | "round" | "circle" | "choice" | "store";

interface Node {
  label: string;
  shape: Shape;
  group: string;
}

interface Edge {
  from: string;
  to: string;
  label: string;
  line: "solid" | "dotted" | "thick";
  hasArrow: boolean;
}

export interface Flowchart {
  direction: "TB" | "BT" | "LR" | "RL";
  nodes: Map<string, Node>;
  groups: Map<string, { label: string; group: string }>;
  edges: Edge[];
}

const HEAD = /^\s*(?:flowchart|graph)(?:-elk)?(?:[ \t]+(TB|TD|BT|LR|RL))?[ \t]*$/;
const READ_OVER = /^(?:classDef\b|class\b|style\b|linkStyle\b|click\b|accTitle\b|accDescr\b|direction\b)/;
const NAME = /^[\p{L}\p{N}_](?:[\p{L}\p{N}_.]|-(?![-.>]))*/u;
const LINK = /^\s*[<xo]?(--+|==+|-\.+-)([>xo](?=[\s|\p{L}\p{N}_]|$))?\s*(?:\|([^|]*)\|)?\s*/u;
const WORDED = /^\s*<?(?:--\s+(.+?)\s+--+([>xo]?)|==\s+(.+?)\s+==+([>xo]?)|-\.\s+(.+?)\s+\.-+([>xo]?))\s*/;
const CLASS = /^:::\w+(?:-\w+)*/;
const BRACKETS: [string, string, Shape][] = [
  ["(((", ")))", "circle"],
  ["((", "))", "circle"],
  ["([", "])", "round"],
  ["[(", ")]", "store"],
  ["[[", "]]", "box"],
  ["{{", "}}", "choice"],
  ["[/", "/]", "box"],
  ["[\\", "\\]", "box"],
  ["[", "]", "box"],
  ["(", ")", "round"],
  ["{", "}", "choice"],
  [">", "]", "box"],
];
const ENTITIES: Record<string, string> = { quot: '"', amp: "&", lt: "<", gt: ">", nbsp: " ", apos: "'" };

/** Returns the text of a label without formatting. */
export function words(written: string): string {
  const bare = written.trim().replace(/^(["`])([\s\S]*)\1$/, "$2");
  return bare
    .replace(/<br\s*\/?>/gi, "\n")
    .replace(/<\/?(?:b|i|u|em|strong|small|code)>/gi, "")
    .replace(/[#&](\d{1,6}|\w{2,6});/g, (whole, name: string) => {
      const number = Number(name);
      if (Number.isInteger(number) && number > 0 && number < 0x110000) return String.fromCodePoint(number);
      return ENTITIES[name] ?? whole;
    })
    .slice(0, MAX_LABEL_CHARS);
}

/** Returns the kind of a diagram other than a flowchart, such as `gantt`, or an empty text. */
export function otherKind(source: string): string {
  const kind = /^[\w-]{1,40}/.exec(linesIn(source)[0] ?? "")?.[0] ?? "";
  return /^(?:flowchart|graph)\b/.test(kind) ? "" : kind;
}

/** Parses a source. Returns null if it is not a flowchart or exceeds a limit. */
export function read(source: string): Flowchart | null {
  if (source.length > MAX_SOURCE_CHARS) return null;
  const lines = linesIn(source);
  const head = HEAD.exec((lines[0] ?? "").replace(/;$/, ""));
  if (!head || lines.some((line) => line.length > MAX_LINE_CHARS)) return null;
  const direction = (head[1] === "TD" ? "TB" : (head[1] ?? "TB")) as Flowchart["direction"];
  const chart: Flowchart = { direction, nodes: new Map(), groups: new Map(), edges: [] };
  const open: string[] = [];
  for (const line of lines.slice(1)) {
    for (const statement of statements(line)) {
      if (READ_OVER.test(statement)) continue;
      if (statement === "end") {
        if (!open.pop()) return null;
      } else if (/^subgraph\b/.test(statement)) {
        const title = statement.slice("subgraph".length).trim();
        const name = NAME.exec(title)?.[0] ?? "";
        const rest = title.slice(name.length).trim();
        const isNamed = name !== "" && /^\[.*\]$/.test(rest);
        const id = isNamed || !rest ? name || `group ${chart.groups.size}` : title;
        if (open.includes(id)) return null; // the group would contain itself
        const label = words(isNamed ? rest.slice(1, -1) : title);
        chart.groups.set(id, { label, group: open.at(-1) ?? "" });
        open.push(id);
      } else if (!readChain(statement, chart, open.at(-1) ?? "")) return null;
      if (chart.nodes.size > MAX_NODES || chart.edges.length > MAX_EDGES || chart.groups.size > MAX_GROUPS)
        return null;
    }
  }
  return open.length || !chart.nodes.size || spans(chart) > MAX_SPANS ? null : chart;
}

/**
 * Returns the approximate number of rows that the arrows pass. The cost of the layout depends on this number, not only
 * on the number of arrows.
 */
function spans(chart: Flowchart): number {
  const below = new Map<string, string[]>();
  for (const edge of chart.edges) {
    const [from, to] = [endOf(chart, edge.from), endOf(chart, edge.to)];
    if (from !== undefined && to !== undefined && from !== to)
      below.set(from, [...(below.get(from) ?? []), to]);
  }
  const open = new Set<string>();
  const done = new Set<string>();
  const forward: [string, string][] = []; // an arrow upwards is laid out as one downwards
  const visit = (id: string): void => {
    open.add(id);
    for (const to of below.get(id) ?? []) {
      if (!open.has(to) && !done.has(to)) visit(to);
      forward.push(open.has(to) ? [to, id] : [id, to]);
    }
    open.delete(id);
    done.add(id);
  };
  for (const id of chart.nodes.keys()) if (!done.has(id)) visit(id);
  const place = new Map([...done].reverse().map((id, at) => [id, at]));
  const row = new Map<string, number>();
  for (const [from, to] of forward.sort(([a], [b]) => (place.get(a) ?? 0) - (place.get(b) ?? 0)))
    row.set(to, Math.max(row.get(to) ?? 0, (row.get(from) ?? 0) + 1));
  const passed = forward.reduce((sum, [from, to]) => sum + (row.get(to) ?? 0) - (row.get(from) ?? 0), 0);
  let deepest = 0;
  for (const node of chart.nodes.values()) {
    let depth = 0;
    for (let group = node.group; group; group = chart.groups.get(group)?.group ?? "") depth += 1;
    deepest = Math.max(deepest, depth);
  }
  return passed * (2 * deepest + 1);
}

/** Returns the lines without comments, settings and front matter, with single spaces. */
function linesIn(source: string): string[] {
  let isSetting = false;
  const found: string[] = [];
  for (const line of source.replace(/^\s*---\n[\s\S]*?\n---\n/, "").split("\n")) {
    const trimmed = line.replace(/\s+/g, " ").trim();
    isSetting ||= trimmed.startsWith("%%{");
    if (isSetting) isSetting = !trimmed.includes("}%%");
    else if (trimmed && !trimmed.startsWith("%%")) found.push(trimmed);
  }
  return found;
}

/** Splits a line into statements at semicolons outside quotes and brackets. */
function statements(line: string): string[] {
  const found: string[] = [];
  let now = "";
  let isQuoted = false;
  for (const sign of line) {
    if (sign === '"') isQuoted = !isQuoted;
    if (sign === ";" && !isQuoted && !/#\w{2,6}$/.test(now)) {
      found.push(now);
      now = "";
    } else now += sign;
  }
  return [...found, now].map((each) => each.trim()).filter(Boolean);
}

/** Parses nodes with arrows between them, as in `a & b --> c -- words --> d`. */
function readChain(statement: string, chart: Flowchart, group: string): boolean {
  let rest = statement;
  let before: string[] = [];
  let link: Omit<Edge, "from" | "to"> | null = null;
  for (;;) {
    const side: string[] = [];
    do {
      rest = rest.replace(/^\s*&?\s*/, "");
      const taken = readNode(rest, chart, group);
      if (!taken) return false;
      side.push(taken.id);
      rest = taken.rest;
    } while (/^\s*&/.test(rest));
    if (link) {
      for (const from of before) for (const to of side) chart.edges.push({ ...link, from, to });
      if (chart.edges.length > MAX_EDGES) return false;
    }
    if (!rest.trim()) return true;
    const worded = WORDED.exec(rest);
    const plain = worded ? null : LINK.exec(rest);
    const found = worded ?? plain;
    if (!found) return false;
    const drawn = found[0].trim();
    link = {
      label: words(worded ? (worded[1] ?? worded[3] ?? worded[5] ?? "") : (plain?.[3] ?? "")),
      line: drawn.includes("==") ? "thick" : /-\./.test(drawn) ? "dotted" : "solid",
      hasArrow: worded ? Boolean(worded[2] ?? worded[4] ?? worded[6]) : Boolean(plain?.[2]),
    };
    rest = rest.slice(found[0].length);
    before = side;
  }
}

function readNode(text: string, chart: Flowchart, group: string): { id: string; rest: string } | null {
  const id = NAME.exec(text)?.[0];
  if (!id) return null;
  let rest = text.slice(id.length);
  let label: string | null = null;
  let shape: Shape = "box";
  const bracket = BRACKETS.find(([opens]) => rest.startsWith(opens));
  if (bracket) {
    const [opens, closes] = bracket;
    const isQuoted = rest.startsWith('"', opens.length);
    const quote = isQuoted ? rest.indexOf('"', opens.length + 1) : 0;
    const end = quote < 0 ? -1 : rest.indexOf(closes, Math.max(quote, opens.length));
    if (end < 0) return null;
    label = words(rest.slice(opens.length, end));
    shape = bracket[2];
    rest = rest.slice(end + closes.length);
  }
  rest = rest.replace(CLASS, "");
  const known = chart.nodes.get(id);
  if (chart.groups.has(id)) return { id, rest };
  if (!known) chart.nodes.set(id, { label: label ?? id, shape, group });
  else if (label !== null) Object.assign(known, { label, shape });
  return { id, rest };
}

/** Wraps a label into lines of limited length. */
function linesOf(label: string): string[] {
  return label.split("\n").flatMap((line) => {
    const found: string[] = [];
    let now = "";
    for (const word of line.split(/\s+/).flatMap((each) => each.match(/.{1,28}/gsu) ?? [])) {
      if (now && now.length + word.length >= LINE_CHARS) {
        found.push(now);
        now = word;
      } else now = now ? `${now} ${word}` : word;
    }
    return [...found, now];
  });
}

/** Returns the approximate width of the longest line, in pixels. */
export function widthOf(lines: string[]): number {
  const width = (line: string) =>
    [...line].reduce((sum, sign) => sum + (sign > "\u2e7f" ? WIDE_CHAR_WIDTH : CHAR_WIDTH), 0);
  return Math.max(...lines.map(width), CHAR_WIDTH);
}

function made<K extends keyof SVGElementTagNameMap>(
  name: K,
  attributes: Record<string, string | number>,
): SVGElementTagNameMap[K] {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, String(value));
  return element;
}

function textAt(lines: string[], x: number, y: number): SVGTextElement {
  const text = made("text", { x, y, "text-anchor": "middle" });
  for (const [at, line] of lines.entries()) {
    const row = made("tspan", { x, y: y + (at - (lines.length - 1) / 2) * LINE_HEIGHT, dy: "0.35em" });
    row.textContent = line;
    text.append(row);
  }
  return text;
}

function outline(shape: Shape, x: number, y: number, width: number, height: number): SVGElement {
  const [left, top] = [x - width / 2, y - height / 2];
  if (shape === "circle") return made("ellipse", { cx: x, cy: y, rx: width / 2, ry: height / 2 });
  if (shape === "choice") {
    const points = `${x},${top} ${x + width / 2},${y} ${x},${top + height} ${left},${y}`;
    return made("polygon", { points });
  }
  const rx = shape === "round" ? height / 2 : shape === "store" ? 10 : 4;
  return made("rect", { x: left, y: top, width, height, rx });
}

/** Returns the node for one end of an edge. For a subgraph, this is its first node. */
function endOf(chart: Flowchart, id: string): string | undefined {
  if (chart.nodes.has(id)) return id;
  const within = (group: string): boolean =>
    group === id || (group !== "" && within(chart.groups.get(group)?.group ?? ""));
  return [...chart.nodes].find(([, node]) => within(node.group))?.[0];
}

/** Returns the text of the nodes. */
export function said(chart: Flowchart): string {
  return [...chart.nodes.values()].map((node) => node.label.replaceAll("\n", " ")).join(", ");
}

/** Draws the chart. Screen readers read the title instead of its elements. */
export function draw(chart: Flowchart, title: string): SVGSVGElement {
  const graph = new Graph({ compound: true, multigraph: true });
  graph.setGraph({ rankdir: chart.direction, nodesep: 30, ranksep: 40, marginx: 10, marginy: 10 });
  const filled = new Set<string>();
  for (const [id, node] of chart.nodes) {
    const lines = linesOf(node.label);
    const grows = node.shape === "choice" ? 1.7 : node.shape === "circle" ? 1.3 : 1;
    const width = widthOf(lines) * grows + 2 * PADDING;
    graph.setNode(`node ${id}`, { width, height: lines.length * LINE_HEIGHT * grows + PADDING, lines });
    for (let group = node.group; group; group = chart.groups.get(group)?.group ?? "") filled.add(group);
  }
  for (const id of filled) graph.setNode(`group ${id}`, {});
  for (const [id, node] of chart.nodes) if (node.group) graph.setParent(`node ${id}`, `group ${node.group}`);
  for (const id of filled) {
    const parent = chart.groups.get(id)?.group;
    if (parent) graph.setParent(`group ${id}`, `group ${parent}`);
  }
  for (const [at, edge] of chart.edges.entries()) {
    const [from, to] = [endOf(chart, edge.from), endOf(chart, edge.to)];
    if (from === undefined || to === undefined) continue;
    const lines = edge.label ? linesOf(edge.label) : [];
    const size = lines.length ? { width: widthOf(lines), height: lines.length * LINE_HEIGHT } : {};
    graph.setEdge(`node ${from}`, `node ${to}`, { ...size, labelpos: "c", lines, edge }, String(at));
  }
  layout(graph);
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  const picture = made("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img" });
  picture.setAttribute("aria-label", title);
  picture.classList.add("flowchart");
  for (const id of filled) {
    const at = graph.node(`group ${id}`) as Placed;
    const frame = made("rect", {
      x: at.x - at.width / 2,
      y: at.y - at.height / 2,
      width: at.width,
      height: at.height,
      rx: 6,
    });
    frame.classList.add("frame");
    picture.append(
      frame,
      textAt([chart.groups.get(id)?.label ?? ""], at.x, at.y - at.height / 2 + LINE_HEIGHT / 2),
    );
  }
  const labels: SVGElement[] = [];
  for (const each of graph.edges()) {
    const { points, x, y, lines, edge } = graph.edge(each) as unknown as {
      points: { x: number; y: number }[];
      x: number;
      y: number;
      lines: string[];
      edge: Edge;
    };
    const line = made("polyline", { points: points.map((point) => `${point.x},${point.y}`).join(" ") });
    line.classList.add(edge.line);
    picture.append(line);
    if (edge.hasArrow) picture.append(arrow(points));
    if (lines.length) labels.push(textAt(lines, x, y));
  }
  for (const [id, node] of chart.nodes) {
    const at = graph.node(`node ${id}`) as Placed & { lines: string[] };
    picture.append(outline(node.shape, at.x, at.y, at.width, at.height), textAt(at.lines, at.x, at.y));
  }
  for (const label of labels) label.classList.add("edge");
  picture.append(...labels);
  return picture;
}

interface Placed {
  x: number;
  y: number;
  width: number;
  height: number;
}

/** Returns the head of an arrow, at the last of its points. */
function arrow(points: { x: number; y: number }[]): SVGElement {
  const [end, before] = [points.at(-1) ?? { x: 0, y: 0 }, points.at(-2) ?? { x: 0, y: 0 }];
  const angle = Math.atan2(end.y - before.y, end.x - before.x);
  const corner = (turn: number) =>
    `${end.x - 9 * Math.cos(angle + turn)},${end.y - 9 * Math.sin(angle + turn)}`;
  const head = made("polygon", { points: `${end.x},${end.y} ${corner(0.45)} ${corner(-0.45)}` });
  head.classList.add("head");
  return head;
}
