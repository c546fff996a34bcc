// The menu of the message box: what a word that begins with `/`, `#` or `@` can stand for.

import type { ComponentChildren, RefObject } from "preact";
import { useState } from "preact/hooks";
import { everyRow, json, type ListPage, part, rows } from "../api";
import { renderPrompt } from "../apps/promptCalls";
import { type Choice, ChoiceList, isComposing, matching, useChoices } from "../parts/Chooser";
import { SchemaForm } from "../parts/SchemaForm";
import { Dialog, Trouble, useLoaded, useWork } from "../parts/ui";
import { status, targets } from "../status";
import type { Prompt, Skill, StoreFile } from "../types";
import { t } from "../words/words";
import { choose, configure, settings, target } from "./conversation";
import { type Mention, mentionAt, type Sign } from "./mention";

const MAX_FILES = 10_000;
const MAX_SKILLS = 1_000;
const MAX_SHOWN = 50;
const CARET_KEYS = new Set(["ArrowLeft", "ArrowRight", "Home", "End"]);

/** A file whose text is sent with a question. */
export interface AskedFile {
  id: string;
  name: string;
}

/** The message box, as the menu changes it. */
export interface MessageBox {
  field: RefObject<HTMLTextAreaElement | null>;
  /** Replaces the mention by a text. */
  replace: (mention: Mention, text: string) => void;
  addFile: (file: AskedFile) => void;
  /** Runs an action, and shows its error. */
  work: (action: () => Promise<unknown>) => Promise<void>;
}

interface Suggestion extends Choice {
  does: (mention: Mention) => void;
}

/** The menu for the word at the caret, and what the field of the message box does for it. */
export function useSuggestions(box: MessageBox) {
  const [mention, setMention] = useState<Mention | null>(null);
  /** The offset of a mention whose menu the user has closed. */
  const [closed, setClosed] = useState(-1);
  const [asking, setAsking] = useState<{ prompt: Prompt; mention: Mention } | null>(null);
  const sign = mention && mention.start !== closed ? mention.sign : undefined;
  const loaded = useLoaded(
    async () => ({ sign, all: sign ? await suggestionsFor(sign, box, setAsking) : [] }),
    `suggestions ${sign} ${target.value?.name}`,
  );
  const all = sign && loaded.value?.sign === sign ? loaded.value.all : [];
  const shown = ranked(matching(all, mention?.words ?? ""), mention?.words ?? "").slice(0, MAX_SHOWN);
  const take = (suggestion: Suggestion) => {
    if (mention) suggestion.does(mention);
    setMention(null);
  };
  const list = useChoices(shown, take);

  const look = () => {
    const field = box.field.current;
    const isCaret = field && field.selectionStart === field.selectionEnd;
    const next = isCaret ? mentionAt(field.value, field.selectionEnd) : null;
    if (!next) setClosed(-1);
    list.setMark(0);
    setMention(next);
  };
  /** Returns whether the menu has used the key. */
  const takeKey = (event: KeyboardEvent): boolean => {
    if (!mention || !shown.length || isComposing(event)) return false;
    if (event.key !== "Escape") return list.takeKey(event);
    event.stopPropagation();
    setClosed(mention.start);
    return true;
  };
  const isOpen = shown.length > 0;
  const field = {
    "aria-autocomplete": "list" as const,
    ...(isOpen ? list.field : {}),
    onClick: look,
    onCompositionEnd: look,
    onKeyUp: (event: KeyboardEvent) => CARET_KEYS.has(event.key) && look(),
    onBlur: () => setMention(null),
  };
  const menu: ComponentChildren = (
    <>
      <Trouble error={sign ? loaded.error : ""} />
      {isOpen && (
        // biome-ignore lint/a11y/noStaticElementInteractions: the focus stays in the message box
        <div class="chooser suggestions" onMouseDown={(event) => event.preventDefault()}>
          <ChoiceList list={list} choices={shown} label={t("suggestions")} onChoose={take} />
        </div>
      )}
      {asking && <PromptForm {...asking} box={box} onClose={() => setAsking(null)} />}
    </>
  );
  return { field, menu, look, takeKey };
}

/** Returns the suggestions whose label begins with a text first. */
function ranked(suggestions: Suggestion[], words: string): Suggestion[] {
  const rest = (each: Suggestion) => (each.label.toLowerCase().startsWith(words.toLowerCase()) ? 0 : 1);
  return suggestions.sort((one, other) => rest(one) - rest(other));
}

type Ask = (asking: { prompt: Prompt; mention: Mention }) => void;

async function suggestionsFor(sign: Sign, box: MessageBox, onAsk: Ask): Promise<Suggestion[]> {
  if (sign === "@") return names(box);
  const isModel = target.peek()?.kind === "model";
  if (sign === "#") return [...stores(box, isModel), ...(isModel ? await files(box) : [])];
  return [...(await prompts(box, onAsk)), ...(isModel ? await skills(box) : [])];
}

function names(box: MessageBox): Suggestion[] {
  return targets().map((each) => ({
    id: each.name,
    label: each.name,
    note: [...(each.aliases ?? []), t(`kind.${each.does === "chat" ? each.kind : each.does}`)].join(" · "),
    does: (mention) => {
      box.replace(mention, "");
      choose(each.name);
    },
  }));
}

/** Returns the stores: a model searches the chosen store, and instead of an app, the store itself answers. */
function stores(box: MessageBox, isModel: boolean): Suggestion[] {
  const add = (id: string) => {
    const before = settings.peek();
    return configure({ ...before, stores: [...new Set([...(before.stores ?? []), id])] });
  };
  return (status.peek()?.stores ?? []).map(({ id, name }) => ({
    id,
    label: name,
    note: t("kind.store"),
    does: (mention) => {
      box.replace(mention, "");
      if (isModel) box.work(() => add(id));
      else choose(name);
    },
  }));
}

async function files(box: MessageBox): Promise<Suggestion[]> {
  const found: Suggestion[] = [];
  for (const store of status.peek()?.stores ?? []) {
    if (found.length >= MAX_FILES) break;
    const path = `/api/stores/${part(store.id)}/files?status=completed&limit=${MAX_FILES - found.length}`;
    for (const { id, filename } of await rows<StoreFile>(path)) {
      const does = (mention: Mention) => {
        box.replace(mention, "");
        box.addFile({ id, name: filename });
      };
      found.push({ id: `${store.id} ${id}`, label: filename, note: store.name, does });
    }
  }
  return found;
}

async function skills(box: MessageBox): Promise<Suggestion[]> {
  const found = await everyRow(MAX_SKILLS, (after) => json<ListPage<Skill>>(`/v1/skills?limit=100${after}`));
  return found.map(({ id, name, description }) => ({
    id,
    label: name,
    note: description,
    group: t("suggestions.skill"),
    does: (mention) => {
      box.replace(mention, "");
      const before = settings.peek();
      box.work(() => configure({ ...before, skills: [...new Set([...(before.skills ?? []), name])] }));
    },
  }));
}

async function prompts(box: MessageBox, onAsk: Ask): Promise<Suggestion[]> {
  return (await rows<Prompt>("/api/prompts")).map((prompt) => ({
    id: prompt.id,
    label: prompt.name,
    note: prompt.title || prompt.description,
    group: t("suggestions.prompt"),
    does: (mention) => {
      if (prompt.arguments.length) onAsk({ prompt, mention });
      else box.work(() => insert(prompt, {}, mention, box));
    },
  }));
}

/** Puts the last message of a prompt into the box. A model receives the messages before it as its system prompt. */
async function insert(
  prompt: Prompt,
  given: Record<string, unknown>,
  mention: Mention,
  box: MessageBox,
): Promise<void> {
  const messages = await renderPrompt(prompt, given);
  const isSplit = target.peek()?.kind === "model" && messages.at(-1)?.role === "user";
  const instructions = (isSplit ? messages.slice(0, -1) : [])
    .map(({ role, content }) => (role === "system" ? content : `${role}: ${content}`))
    .join("\n\n");
  if (instructions) await configure({ ...settings.peek(), instructions });
  const rest = isSplit ? messages.slice(-1) : messages;
  box.replace(mention, rest.map(({ content }) => content).join("\n\n"));
}

/** The arguments of a prompt. */
function PromptForm(props: { prompt: Prompt; mention: Mention; box: MessageBox; onClose: () => void }) {
  const { prompt, mention, box, onClose } = props;
  const [busy, error, work] = useWork();
  const fields = prompt.arguments.map(({ name, type, description, default: value, enum: choices }) => [
    name,
    {
      type,
      description,
      ...(value === null ? {} : { default: value }),
      ...(choices.length ? { enum: choices } : {}),
    },
  ]);
  const schema = {
    type: "object",
    properties: Object.fromEntries(fields),
    required: prompt.arguments.filter((each) => each.required).map((each) => each.name),
  };
  const send = (given: unknown) =>
    work(async () => {
      await insert(prompt, given as Record<string, unknown>, mention, box);
      onClose();
    });
  return (
    <Dialog title={prompt.title || prompt.name} onClose={onClose}>
      {prompt.description && <p class="soft">{prompt.description}</p>}
      <SchemaForm schema={schema} send={busy ? "…" : t("suggestions.insert")} onSend={send} />
      <Trouble error={error} />
    </Dialog>
  );
}
