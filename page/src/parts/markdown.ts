// Markdown as HTML, block by block: what a model wrote is text, and becomes only the few elements that are named here.

import { tex } from "@mdit/plugin-tex";
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";
import { REASONS, type Reason, type Unsupported, withMarks } from "../claims";

type Token = ReturnType<MarkdownIt["parse"]>[number];

const TAGS = [
  ...["p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "ul", "ol", "li"],
  ...["table", "thead", "tbody", "tr", "th", "td", "pre", "code", "em", "strong", "s", "a", "img", "span"],
];
const ATTRIBUTES = ["href", "title", "alt", "src", "start", "class", "style", "target", "rel"];
const DATA_ATTRIBUTES = ["data-cite", "data-reason", "data-math", "data-display", "data-language"];
const CLASSES = new Set(["cite", "unsupported", "math", "code"]);
const WEB_LINK = /^(?:https?:|mailto:)/i;
const PICTURE = /^data:image\/(?:png|jpeg|gif|webp);base64,/i;
const ALIGNED = /^text-align:\s*(?:left|center|right);?$/;

const purify = DOMPurify(window);
purify.addHook("uponSanitizeAttribute", (_node, data) => {
  const value = data.attrValue;
  if (data.attrName === "class") data.keepAttr = CLASSES.has(value);
  else if (data.attrName === "style") data.keepAttr = ALIGNED.test(value);
  else if (data.attrName === "src") data.keepAttr = PICTURE.test(value);
  else if (data.attrName === "href") data.keepAttr = WEB_LINK.test(value);
});

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true });
markdown.use(tex, {
  delimiters: "all",
  render: (content: string, display: boolean) =>
    `<span class="math" data-math="${markdown.utils.escapeHtml(content)}"${display ? ' data-display="1"' : ""}></span>`,
});

// A picture from elsewhere would tell its host who reads: it is a link.
markdown.renderer.rules.image = (tokens, at) => {
  const token = tokens[at] as Token;
  const source = String(token.attrGet("src") ?? "");
  const words = markdown.utils.escapeHtml(token.content || source);
  const address = markdown.utils.escapeHtml(source);
  return PICTURE.test(source) ? `<img src="${address}" alt="${words}">` : `<a href="${address}">${words}</a>`;
};
markdown.renderer.rules.fence = (tokens, at) => {
  const token = tokens[at] as Token;
  const language = /^[\w+#.-]{0,24}/.exec(token.info.trim())?.[0] ?? "";
  const code = markdown.utils.escapeHtml(token.content);
  return `<pre class="code" data-language="${language}"><code>${code}</code></pre>`;
};
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

/** Begins a mark in a text. A model's own, which would be one, is replaced. */
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
/** Marks that are within what is shown as it is, such as code, a formula or the words of a picture. */
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

/** A piece of a text that is drawn by itself: what stands before it does not change it. */
export interface Block {
  html: string;
}

const made = new Map<string, string>();
const MAX_MADE = 2_000;

/** The blocks of a text. Those that were there before are not made again. */
export function blocks(text: string, cited: number[] = [], unsupported: Unsupported[] = []): Block[] {
  const env = { cited: new Set(cited) };
  const tokens = markdown.parse(withMarks(text.replaceAll(MARK, "\ufffd"), unsupported, markOf), env);
  const found: Block[] = [];
  let group: Token[] = [];
  for (const [place, token] of tokens.entries()) {
    group.push(token);
    if (token.level === 0 && token.nesting <= 0 && tokens[place + 1]?.type !== "unsupported") {
      found.push({ html: clean(markdown.renderer.render(group, markdown.options, env)) });
      group = [];
    }
  }
  return found;
}

function clean(html: string): string {
  const known = made.get(html);
  if (known !== undefined) return known;
  const safe = purify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: [...ATTRIBUTES, ...DATA_ATTRIBUTES],
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
  });
  if (made.size >= MAX_MADE) made.clear();
  made.set(html, safe);
  return safe;
}
