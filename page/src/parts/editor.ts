// A YAML editor with inline errors, completion and differences. Loaded when the first editor opens.

import { autocompletion, type CompletionContext, type CompletionResult } from "@codemirror/autocomplete";
import { defaultKeymap, history, historyKeymap } from "@codemirror/commands";
import { yaml } from "@codemirror/lang-yaml";
import { bracketMatching, HighlightStyle, indentOnInput, syntaxHighlighting } from "@codemirror/language";
import { linter, lintGutter, lintKeymap } from "@codemirror/lint";
import { unifiedMergeView } from "@codemirror/merge";
import { Compartment, EditorState, type Extension, StateEffect } from "@codemirror/state";
import { drawSelection, EditorView, highlightActiveLine, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import type { Fault, Suggestion } from "./yaml";

export { read, suggestionsAt, write } from "./yaml";

const CHECK_DELAY_MS = 400;

const LOOK = EditorView.theme({
  "&": { color: "var(--ink)", backgroundColor: "var(--card)", border: "1px solid var(--line)" },
  "&.cm-focused": { outline: "2px solid var(--accent)" },
  ".cm-scroller": { font: "0.85rem / 1.55 var(--mono)", minHeight: "10rem", maxHeight: "60vh" },
  ".cm-content": { caretColor: "var(--ink)" },
  ".cm-cursor": { borderLeftColor: "var(--ink)" },
  ".cm-gutters": {
    color: "var(--soft)",
    backgroundColor: "var(--paper)",
    borderRight: "1px solid var(--line)",
  },
  ".cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--hover) 45%, transparent)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": {
    backgroundColor: "light-dark(#c5dcf3, #34506d)",
  },
  ".cm-tooltip": { color: "var(--ink)", backgroundColor: "var(--card)", border: "1px solid var(--line)" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { color: "var(--ink)", backgroundColor: "var(--mine)" },
  ".cm-completionDetail": { color: "var(--soft)", fontStyle: "normal" },
  ".cm-changedLine, .cm-insertedLine": { backgroundColor: "light-dark(#e4f4ea, #173324) !important" },
  ".cm-changedText": { background: "light-dark(#bfe6cd, #245c3c) !important" },
  ".cm-deletedChunk": { backgroundColor: "light-dark(#fbeae8, #3b1d1b)" },
  ".cm-deletedChunk .cm-deletedText": { background: "light-dark(#f3c6c1, #6b2a25) !important" },
  ".cm-collapsedLines": { color: "var(--soft)", background: "var(--paper)" },
});

const COLOURS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "light-dark(#1d5d99, #8fc0f2)" },
  { tag: [tags.string, tags.content], color: "light-dark(#1b6b3a, #8fd3a5)" },
  { tag: [tags.keyword, tags.typeName, tags.labelName], color: "light-dark(#8a2f8f, #d7a0e0)" },
  { tag: [tags.comment, tags.lineComment, tags.meta], color: "var(--soft)" },
]);

export interface Options {
  text: string;
  /** The label for screen readers. */
  label: string;
  /** The text for `$` lines that are the same in both texts. */
  unchanged: string;
  /** Without it, the text is read-only. */
  onChange?: (text: string) => void;
  /** Returns the errors of a text. Called a moment after each change. */
  check?: (text: string) => Promise<Fault[]>;
  suggest?: (text: string, at: number) => { from: number; given: Suggestion[] };
}

/** An open editor. */
export interface Editor {
  /** Shows the differences from another text; null hides them. */
  compare: (original: string | null) => void;
  replace: (text: string) => void;
  /** Focuses the editor at an offset. */
  jump: (at: number) => void;
  /** Checks the text again. */
  recheck: () => void;
  close: () => void;
}

const again = StateEffect.define<null>();

export function openEditor(parent: HTMLElement, options: Options): Editor {
  const { check, suggest, onChange } = options;
  const difference = new Compartment();
  const extensions: Extension[] = [
    EditorView.cspNonce.of(document.querySelector<HTMLMetaElement>("meta[name=style-nonce]")?.content ?? ""),
    LOOK,
    yaml(),
    lineNumbers(),
    syntaxHighlighting(COLOURS),
    EditorView.lineWrapping,
    EditorView.contentAttributes.of({ "aria-label": options.label, spellcheck: "false" }),
    EditorState.phrases.of({ "$ unchanged lines": options.unchanged }),
    difference.of([]),
  ];
  if (onChange) {
    extensions.push(
      history(),
      drawSelection(),
      highlightActiveLine(),
      bracketMatching(),
      indentOnInput(),
      keymap.of([...defaultKeymap, ...historyKeymap, ...lintKeymap]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) onChange(update.state.doc.toString());
      }),
    );
  } else extensions.push(EditorState.readOnly.of(true));
  if (suggest) {
    extensions.push(
      autocompletion({
        icons: false,
        activateOnCompletion: () => true,
        override: [(context) => complete(context, suggest)],
      }),
    );
  }
  if (check) {
    extensions.push(
      lintGutter(),
      linter(
        async (shown) =>
          (await check(shown.state.doc.toString())).map((fault) => ({
            ...fault,
            severity: "error" as const,
          })),
        {
          delay: CHECK_DELAY_MS,
          needsRefresh: (update) =>
            update.transactions.some((each) => each.effects.some((it) => it.is(again))),
        },
      ),
    );
  }
  const view = new EditorView({ parent, doc: options.text, extensions });
  return {
    compare: (original) =>
      view.dispatch({
        effects: difference.reconfigure(
          original === null
            ? []
            : unifiedMergeView({ original, mergeControls: false, gutter: false, collapseUnchanged: {} }),
        ),
      }),
    replace: (text) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: text } }),
    jump: (at) => {
      view.focus();
      view.dispatch({ selection: { anchor: Math.min(at, view.state.doc.length) }, scrollIntoView: true });
    },
    recheck: () => view.dispatch({ effects: again.of(null) }),
    close: () => view.destroy(),
  };
}

/** Returns the completions at the cursor. Called after Ctrl+Space, within a word, and after a colon. */
function complete(
  context: CompletionContext,
  suggest: NonNullable<Options["suggest"]>,
): CompletionResult | null {
  if (!context.explicit && !context.matchBefore(/[\w$-]+|: $/)) return null;
  const { from, given } = suggest(context.state.doc.toString(), context.pos);
  if (!given.length) return null;
  return {
    from,
    validFor: /^[\w$-]*$/,
    options: given.map(({ label, apply, detail, info, needed }) => ({
      label,
      apply,
      detail,
      boost: needed ? 1 : 0,
      ...(info ? { info } : {}),
    })),
  };
}
