// @vitest-environment jsdom
import { expect, test } from "vitest";
import { draw, otherKind, read, said, words } from "../src/parts/flowchart";

const edgesOf = (source: string) =>
  read(source)?.edges.map((edge) => `${edge.from} ${edge.line} ${edge.to} ${edge.label}`.trim());

test("nodes, arrows with words, chains and subgraphs are read", () => {
  const chart = read(`flowchart LR
    a[Start] --> b{"Is it <b>late</b>?"}
    b -->|yes| c([Go home]) & d[(Files)]
    b -- not yet --> a
    subgraph work["At work"]
      c -.-> e((end_)) ==> a; d --- e
    end
    e --> work`);
  expect(chart?.direction).toBe("LR");
  expect(chart?.nodes.get("b")).toEqual({ label: "Is it late?", shape: "choice", group: "" });
  expect(chart?.nodes.get("e")).toEqual({ label: "end_", shape: "circle", group: "work" });
  expect(chart?.groups.get("work")?.label).toBe("At work");
  expect(chart?.edges.map((edge) => [edge.from, edge.to, edge.label, edge.line])).toEqual([
    ["a", "b", "", "solid"],
    ["b", "c", "yes", "solid"],
    ["b", "d", "yes", "solid"],
    ["b", "a", "not yet", "solid"],
    ["c", "e", "", "dotted"],
    ["e", "a", "", "thick"],
    ["d", "e", "", "solid"],
    ["e", "work", "", "solid"],
  ]);
  expect(said(chart as NonNullable<typeof chart>)).toContain("Start, Is it late?, Go home");
});

test("what the daemon writes of a flow is read", () => {
  const source = `flowchart TD
    start([input])
    n1["<b>say #quot;it#quot;</b><br/>code · 5#59; 6"]
    subgraph n2["all (many, 3 times)"]
        n3["<b>n3</b><br/>call"]
        n3 -.->|"again"| n3
    end
    end_([output])
    start --> n1
    n1 -->|"no"| n3
    n3 --> end_
`;
  expect(edgesOf(source)).toEqual([
    "n3 dotted n3 again",
    "start solid n1",
    "n1 solid n3 no",
    "n3 solid end_",
  ]);
  expect(read(source)?.nodes.get("n1")?.label).toBe('say "it"\ncode · 5; 6');
});

test("what else the language has is read over", () => {
  const source = `%%{init: {
    "themeCSS": "* { background: url(https://evil.example) }"
  }}%%
%% a remark
graph TD;
  a[One]:::big-->b---c;
  click a href "javascript:alert(1)" "x" _self
  click b call steal()
  classDef big fill:#f00;
  class a big
  style a fill:url(https://evil.example)
  linkStyle 0 stroke:red
`;
  expect(edgesOf(source)).toEqual(["a solid b", "b solid c"]);
});

test.each([
  "sequenceDiagram\n a->>b: hello",
  "flowchart TD\n a -->",
  "flowchart TD\n a[no end",
  "flowchart TD\n subgraph x\n a",
  "flowchart TD\n subgraph x\n subgraph x\n a\n end\n end",
  "flowchart TD\n subgraph x\n subgraph y\n subgraph x\n a\n end\n end\n end",
  "flowchart TD",
  "",
  `flowchart TD\n${Array.from({ length: 10_000 }, (_, n) => `a${n}`).join(";")}`,
  `flowchart TD\n${Array.from({ length: 10_000 }, (_, n) => `n${n} --> n${n + 1}\n`).join("")}`,
  `flowchart TD\n${Array.from({ length: 99 }, (_, n) => `a${n}`).join(" & ")} --> x & y & z & w`,
  `flowchart TD\n a -- ${" ".repeat(19_000)}`,
  `flowchart TD\n a[${"x".repeat(1_000_000)}]`,
])("what cannot be drawn, or is too much, is none: %#", (source) => {
  expect(read(source)).toBeNull();
});

test("a drawing is shapes, lines and text, and nothing of its source is anything else", () => {
  const chart = read(`flowchart TD
    a["<img src=x onerror=alert(1)>"] -->|"<script>alert(1)</script>"| b["<a href='javascript:alert(1)'>x</a>"]
    b --> c["<foreignObject><iframe src=https://evil.example></iframe></foreignObject>"]
    subgraph s["<style>*{display:none}</style>"]
      c
    end`);
  const picture = draw(chart as NonNullable<typeof chart>, '"><img src=x onerror=alert(1)>');
  const names = new Set([...picture.querySelectorAll("*")].map((each) => each.tagName));
  expect(names).toEqual(new Set(["rect", "polyline", "polygon", "text", "tspan"]));
  for (const element of [picture, ...picture.querySelectorAll("*")])
    for (const attribute of element.attributes)
      expect(attribute.name).toMatch(
        /^(?:class|x|y|dy|rx|cx|cy|ry|width|height|points|viewBox|role|aria-label|text-anchor)$/,
      );
  expect(picture.textContent).toContain("<img src=x");
});

test("what would keep the page busy for long is not drawn, though its parts are few", () => {
  const nodes = Array.from({ length: 150 }, (_, n) => `a${n}`);
  const chain = `flowchart TD\n${nodes.join(" --> ")}`;
  expect(read(chain)).not.toBeNull();
  const across = Array.from({ length: 5 }, (_, n) => `\n a${n} --> a${149 - n}\n a${148 - n} --> a${n}`);
  expect(read(chain + across.join(""))).not.toBeNull();
  const more = Array.from({ length: 40 }, (_, n) => `\n a${n} --> a${149 - n}\n a${148 - n} --> a${n}`);
  expect(read(chain + more.join(""))).toBeNull();
  const deep = Array.from({ length: 30 }, (_, n) => `\n subgraph g${n}`).join("");
  expect(read(`${chain}${deep}\n inner${"\n end".repeat(30)}`)).toBeNull();
  const round = Array.from({ length: 100 }, (_, n) => `a${n} --> a${(n + 1) % 100}`).join("\n ");
  expect(read(`flowchart LR\n ${round}`)).not.toBeNull();
});

test("edges of subgraphs, of nodes to themselves and twice between two are drawn", () => {
  const chart = read(
    "flowchart LR\n subgraph x\n a --> b\n end\n x --> c\n c --> x\n a --> a\n a -->|again| b\n subgraph y\n end",
  );
  expect(draw(chart as NonNullable<typeof chart>, "").querySelectorAll("polyline").length).toBe(5);
});

test.each([
  ['"a#quot;b"', 'a"b'],
  ["a<br>b", "a\nb"],
  ["`**x**`", "**x**"],
  ["&lt;script&gt;", "<script>"],
])("the words of %s", (written, label) => {
  expect(words(written)).toBe(label);
});

test.each([
  ["flowchart TD\n  a[never closed", ""],
  ["graph LR", ""],
  ["%%{init: {}}%%\nsequenceDiagram\n  a->>b: hello", "sequenceDiagram"],
  ["---\ntitle: Plan\n---\ngantt\n  title Plan", "gantt"],
  ["stateDiagram-v2", "stateDiagram-v2"],
  ["xychart-beta", "xychart-beta"],
  ["<img src=x>", ""],
  ["", ""],
])("the kind of another diagram is named: %j", (source, kind) => {
  expect(otherKind(source)).toBe(kind);
});
