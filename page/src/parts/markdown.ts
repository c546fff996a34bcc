// Markdown to HTML, block by block. The text of a model becomes only the few elements that are named here.

import { tex } from "@mdit/plugin-tex";
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { REASONS, type Reason, type Unsupported, withMarks } from "../claims";

type Token = ReturnType<MarkdownIt["parse"]>[number];

const TAGS = [
  ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"],
  ...["table", "thead", "tbody", "tr", "th", "td", "pre", "code", "em", "strong", "s", "a", "img", "span"],
];
const ATTRIBUTES = ["href", "title", "alt", "src", "start", "class", "target", "rel"];
const DATA_ATTRIBUTES = ["data-cite", "data-reason", "data-math", "data-display", "data-language"];
const CLASSES = new Set([
  "cite",
  "unsupported",
  "math",
  "code",
  "task",
  "task done",
  "left",
  "center",
  "right",
]);
const WEB_LINK = /^(?:https?:|mailto:)/i;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;

const purify = DOMPurify(window);
purify.addHook("uponSanitizeAttribute", (_node, data) => {
  const value = data.attrValue;
  if (data.attrName === "class") data.keepAttr = CLASSES.has(value);
  else if (data.attrName === "src") data.keepAttr = PICTURE.test(value);
  else if (data.attrName === "href") data.keepAttr = WEB_LINK.test(value);
});

function languageOf(fence: Token): string {
  return /^[\w+#.-]{0,24}/.exec(fence.info.trim())?.[0] ?? "";
}

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true });
markdown.use(tex, {
  delimiters: "all",
  render: (content: string, display: boolean) =>
    `<span class="math" data-math="${markdown.utils.escapeHtml(content)}"${display ? ' data-display="1"' : ""}></span>`,
});

// An image from another host would reveal the reader to it, so it becomes a link.
markdown.renderer.rules.image = (tokens, at) => {
  const token = tokens[at] as Token;
  const source = String(token.attrGet("src") ?? "");
  const words = markdown.utils.escapeHtml(token.content || source);
  const address = markdown.utils.escapeHtml(source);
  return PICTURE.test(source) ? `<img src="${address}" alt="${words}">` : `<a href="${address}">${words}</a>`;
};
markdown.renderer.rules.fence = (tokens, at) => {
  const token = tokens[at] as Token;
  const language = languageOf(token);
  const code = markdown.utils.escapeHtml(token.content);
  return `<pre class="code" data-language="${language}"><code>${code}</code></pre>`;
};
// The page's policy forbids style attributes.
for (const cell of ["th_open", "td_open"]) {
  markdown.renderer.rules[cell] = (tokens, at, options, _env, renderer) => {
    const token = tokens[at] as Token;
    const side = /left|center|right/.exec(String(token.attrGet("style") ?? ""))?.[0];
    token.attrs = side ? [["class", side]] : null;
    return renderer.renderToken(tokens, at, options);
  };
}
markdown.renderer.rules.code_block = markdown.renderer.rules.fence;
markdown.inline.ruler.before("link", "cite", (state, silent) => {
  const found = /^\[(\d{1,3})\](?!\(|:)/.exec(state.src.slice(state.pos, state.pos + 6));
  const number = Number(found?.[1]);
  if (!found || !(state.env as { cited?: Set<number> }).cited?.has(number)) return false;
  if (!silent) state.push("cite", "", 0).content = String(number);
  state.pos += found[0].length;
  return true;
});
markdown.renderer.rules.cite = (tokens, at) => {
  const number = (tokens[at] as Token).content;
  return `<a class="cite" data-cite="${number}">${number}</a>`;
};

const TASK = /^\[([ xX])\][ \t]+/;
markdown.core.ruler.before("inline", "task", (state) => {
  for (const [place, token] of state.tokens.entries()) {
    const box =
      token.type === "inline" &&
      state.tokens[place - 2]?.type === "list_item_open" &&
      TASK.exec(token.content);
    if (!box) continue;
    token.content = token.content.slice(box[0].length);
    token.meta = { done: box[1] !== " " };
  }
});
markdown.core.ruler.after("inline", "task_box", (state) => {
  for (const token of state.tokens) {
    if (token.type !== "inline" || !token.meta) continue;
    const box = Object.assign(new state.Token("task", "", 0), { meta: token.meta });
    token.children = [box, ...(token.children ?? [])];
  }
});
markdown.renderer.rules.task = (tokens, at) =>
  `<span class="${(tokens[at] as Token).meta.done ? "task done" : "task"}"></span>`;

/** Starts a mark in a text. The same character in the model's text is replaced. */
const MARK = "\ue000";
markdown.inline.ruler.before("cite", "unsupported", (state, silent) => {
  if (!state.src.startsWith(`[${MARK}`, state.pos)) return false;
  if (!silent) state.push("unsupported", "", 0).content = state.src.charAt(state.pos + 2);
  state.pos += 4;
  return true;
});
markdown.renderer.rules.unsupported = (tokens, at) => {
  const reason = REASONS[Number((tokens[at] as Token).content)];
  return `<span class="unsupported" data-reason="${reason}"></span>`;
};
/** Marks within verbatim content, such as code, a formula or the alternative text of an image. */
const WITHIN = new RegExp(` ?\\[${MARK}(\\d)\\]`, "g");
markdown.core.ruler.push("unsupported", (state) => {
  const made = (type: string, content: string): Token =>
    Object.assign(new state.Token(type, "", 0), { content });
  const takenFrom = (token: Token): Token[] => {
    const taken: Token[] = [];
    const without = (text: string) =>
      text.replace(WITHIN, (_mark, content) => {
        taken.push(made("unsupported", content));
        return "";
      });
    token.content = without(token.content);
    token.info = without(token.info);
    for (const attribute of token.attrs ?? []) attribute[1] = without(attribute[1]);
    for (const mark of taken) mark.level = token.level;
    return taken;
  };
  state.tokens = state.tokens.flatMap((token) => {
    if (token.type !== "inline") return [token, ...takenFrom(token)];
    token.children = (token.children ?? []).flatMap((child) => [
      child,
      ...takenFrom(child).flatMap((mark) => [made("text", " "), mark]),
    ]);
    return [token];
  });
});
const markOf = (reason: Reason) => `[${MARK}${REASONS.indexOf(reason)}]`;

/** A part of a text that is drawn on its own. Text before it does not change it. */
export class Block {
  private safe: string | null = null;

  constructor(
    readonly written: string,
    /** The block as the model wrote it. */
    readonly source: string,
  ) {}

  /** The sanitized HTML, created on first use. */
  get html(): string {
    this.safe ??= purify.sanitize(this.written, {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: [...ATTRIBUTES, ...DATA_ATTRIBUTES],
      ALLOW_DATA_ATTR: false,
      ALLOW_ARIA_ATTR: false,
    });
    return this.safe;
  }
}

interface Environment {
  cited: Set<number>;
  references: Record<string, unknown>;
}

/** A line that begins a formula, or a paragraph until its end is written. */
const OPEN_FORMULA = /^ {0,3}\\\[/m;

/**
 * A text that may grow. Blocks that later text cannot change are kept, so appending a word costs the same at the end of
 * a long text and of a short one.
 */
export class Draft {
  private settled = "";
  private kept: Block[] = [];
  private last: Block[] = [];
  private given: unknown[] = [];

  /** Returns the blocks of the current text. An unchanged block is the same object as before. */
  blocks(text: string, cited: number[] = [], unsupported: Unsupported[] = []): Block[] {
    const given = [text, cited.join(), unsupported];
    if (given.every((each, place) => each === this.given[place])) return this.last;
    const whole = withMarks(text.replaceAll(MARK, "\ufffd"), unsupported, markOf).replace(/\r\n?/g, "\n");
    if (given[1] !== this.given[1] || !whole.startsWith(this.settled)) this.forget();
    this.given = given;
    this.last = this.read(whole, cited) ?? [];
    return this.last;
  }

  private forget(): void {
    this.settled = "";
    this.kept = [];
  }

  private read(whole: string, cited: number[]): Block[] {
    const env: Environment = { cited: new Set(cited), references: {} };
    const text = whole.slice(this.settled.length);
    const groups = grouped(markdown.parse(text, env));
    const lines = text.split("\n");
    // Earlier text may use a link that is defined here.
    const defines = Object.keys(env.references).length > 0;
    if (defines && this.kept.length) {
      this.forget();
      return this.read(whole, cited);
    }
    const found = groups.map((group, place) => {
      const written = markdown.renderer.render(group, markdown.options, env);
      const before = this.last[this.kept.length + place];
      if (before?.written === written) return before;
      return new Block(written, lines.slice(...(group[0]?.map ?? [0, 0])).join("\n"));
    });
    const all = [...this.kept, ...found];
    if (!defines) this.settle(lines, groups, all);
    return all;
  }

  /** Keeps the blocks before the last block that follows an empty line and whose first line is complete. */
  private settle(lines: string[], groups: Token[][], all: Block[]): void {
    let settles = 0;
    let end = 0;
    for (const [place, group] of groups.entries()) {
      const [from, to] = group[0]?.map ?? [0, 0];
      if (place && from < lines.length - 1 && !lines[from - 1]?.trim()) [settles, end] = [place, from];
      if (group[0]?.type === "paragraph_open" && OPEN_FORMULA.test(lines.slice(from, to).join("\n"))) break;
    }
    if (!settles) return;
    this.kept = all.slice(0, this.kept.length + settles);
    this.settled += `${lines.slice(0, end).join("\n")}\n`;
  }
}

/** Returns the tokens of each block. */
function grouped(tokens: Token[]): Token[][] {
  const groups: Token[][] = [];
  let group: Token[] = [];
  for (const [place, token] of tokens.entries()) {
    group.push(token);
    if (token.level === 0 && token.nesting <= 0 && tokens[place + 1]?.type !== "unsupported") {
      groups.push(group);
      group = [];
    }
  }
  return groups;
}

/** Returns the code blocks of a text with their languages. */
export function codeBlocks(text: string): { language: string; code: string }[] {
  return markdown
    .parse(text, {})
    .filter((token) => token.type === "fence")
    .map((token) => ({ language: languageOf(token), code: token.content }));
}

/** Returns the blocks of a text. */
export function blocks(text: string, cited: number[] = [], unsupported: Unsupported[] = []): Block[] {
  return new Draft().blocks(text, cited, unsupported);
}
