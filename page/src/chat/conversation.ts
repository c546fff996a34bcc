// The open conversation: its messages, its target and the pending question.

import { batch, computed, effect, signal } from "@preact/signals";
import { ApiError, sentence } from "../api";
import { recall, remember } from "../kept";
import { go, link, route } from "../route";
import { apps, status, type Target, targets } from "../status";
import type { Session } from "../types";
import type { Content } from "./content";
import { addTo, CONVERSATION, makeStore, removeStore } from "./documents";
import type { Shown } from "./media";
import {
  branch,
  changeSession,
  getSession,
  listSessions,
  type Message,
  type Metadata,
  metadataOf,
  readMessages,
  removeSession,
  type Settings,
  textOf,
} from "./sessions";
import { Talk } from "./talk";

export const sessions = signal<Session[]>([]);
export const search = signal("");
export const listError = signal("");

/** The open conversation. */
export const main = new Talk(() => look());
/** The same questions, answered by another model. */
export const rival = new Talk(() => look());
export const { session, messages, turn } = main;
export const openError = signal("");

/** The output of an image or speech model. It is not stored, and is lost when the page closes. */
export interface MadeTurn {
  id: number;
  prompt: string;
  files: Shown[];
  error: string;
  busy: boolean;
}

export const made = signal<MadeTurn[]>([]);

/** Appends a turn, or replaces the turn with the same id. */
export function putMade(turn: MadeTurn): void {
  const known = made.value.some((each) => each.id === turn.id);
  made.value = known ? made.value.map((each) => (each.id === turn.id ? turn : each)) : [...made.value, turn];
}
/** System prompt and parameters of a conversation that has not started yet. */
export const settings = signal<Settings>({});

const wanted = signal(recall("target"));

/** The target of questions: the chosen one if it exists, else the first app of a folder, else `default`. */
export const target = computed<Target | null>(() => {
  const known = targets();
  const folders = status.value?.stores.filter((store) => store.folder).map((store) => store.name) ?? [];
  const first = status.value?.apps.find((name) => folders.includes(name));
  const isDefault = ({ name, aliases }: Target) => name === "default" || aliases?.includes("default");
  return (
    known.find((each) => each.name === wanted.value) ??
    known.find((each) => each.name === first) ??
    known.find(isDefault) ??
    known[0] ??
    null
  );
});

export const isAnswering = computed(() => main.isAnswering.value || rival.isAnswering.value);

const wantedRival = signal("");

/** The target that answers beside the main one. Agents cannot, because they keep their own history. */
export const rivalTarget = computed<Target | null>(
  () => rivals().find((each) => each.name === wantedRival.value) ?? null,
);

/** Returns the targets that can answer beside the current one. */
export function rivals(): Target[] {
  const who = target.value;
  if (who?.does !== "chat" || who.kind === "agent") return [];
  return targets().filter((each) => each.does === "chat" && each.kind !== "agent" && each.name !== who.name);
}

/** The branches of the open conversation, oldest first. Empty if there is only one. */
export const branches = computed<Session[]>(() => {
  const now = session.value;
  if (!now) return [];
  const root = metadataOf(now).root ?? now.id;
  const found = sessions.value.filter((each) => {
    const about = metadataOf(each);
    return (about.root ?? each.id) === root && (!about.beside || each.id === now.id);
  });
  return found.length > 1 ? found.sort((one, other) => one.created_at - other.created_at) : [];
});

/** Whether more sessions can be loaded. */
export const hasMore = signal(false);

let looking: AbortController | null = null;
let lookedFor = "";

/** Reloads the loaded part of the list. With `next`, loads the next page. */
export async function look(next = false): Promise<void> {
  if (next && looking) return; // a reload is in progress and replaces the list; the next page is requested after it
  looking?.abort();
  const mine = new AbortController();
  looking = mine;
  const words = search.peek();
  const before = words === lookedFor ? sessions.peek() : [];
  try {
    const after = next ? (before.at(-1)?.id ?? "") : "";
    const page = await listSessions(words, after, next ? 1 : before.length, mine.signal);
    const known = new Set(next ? before.map((each) => each.id) : []);
    const added = page.data.filter((each) => !known.has(each.id));
    batch(() => {
      sessions.value = next ? [...before, ...added] : added;
      hasMore.value = page.has_more;
      listError.value = "";
    });
    lookedFor = words;
  } catch (error) {
    if (!(error instanceof DOMException)) listError.value = sentence(error);
  } finally {
    if (looking === mine) looking = null;
  }
}

export function choose(name: string): void {
  wanted.value = name;
  remember("target", name);
}

/** Starts a new conversation. An answer in progress continues. */
export function startNew(): void {
  go(link("chat"));
  remember("open", "");
}

function leave(): void {
  batch(() => {
    main.leave();
    rival.leave();
    wantedRival.value = "";
    made.value = [];
    openError.value = "";
    settings.value = {};
  });
}

/** Opens the session in the address. */
export async function open(id: string): Promise<void> {
  if (session.peek()?.id === id) return;
  leave();
  remember("open", id);
  if (!id) return;
  try {
    const [found, said] = await Promise.all([getSession(id), readMessages(id)]);
    if (route.peek().rest[0] !== id) return;
    const about = metadataOf(found);
    batch(() => {
      main.show(found, said);
      settings.value = about.settings ?? {};
      wanted.value = about.target ?? found.app;
    });
    await main.takeUp();
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) remember("open", "");
    openError.value = sentence(error);
  }
}

/** Asks a question in the open conversation, and asks the other model if there is one. */
export async function ask(question: Content): Promise<void> {
  const who = target.peek();
  if (!who || isAnswering.peek()) return;
  const other = rivalTarget.peek();
  const said = messages.peek().length;
  let beside: Promise<void> | null = null;
  await main.ask(question, who, settings.peek(), {}, (now) => {
    remember("open", now.id);
    go(link("chat", now.id), true);
    if (other) beside = askBeside(question, other, now, said);
  });
  await beside;
}

/** Asks the other model, which sees the first `said` messages of the conversation and its own later answers. */
async function askBeside(question: Content, other: Target, now: Session, said: number): Promise<void> {
  const about = { beside: now.id, root: metadataOf(now).root ?? now.id };
  try {
    if (!rival.session.peek() && said) {
      const copy = await branch(now, said, other.name, about);
      rival.show(copy, await readMessages(copy.id));
    }
    if (session.peek()?.id === now.id) await rival.ask(question, other, settings.peek(), about);
  } catch (error) {
    openError.value = sentence(error);
  }
}

/** Lets another model answer too. An empty name ends the comparison. */
export async function chooseRival(name: string): Promise<void> {
  const before = rival.session.peek();
  rival.leave();
  wantedRival.value = name;
  if (!before) return;
  const { beside: _ended, ...about } = metadataOf(before);
  await changeSession(before, { metadata: about });
  await look();
}

/** Continues with the other model's answers. The previous conversation is kept as another branch. */
export async function continueBeside(): Promise<void> {
  const chosen = rival.session.peek();
  if (!chosen) return;
  await chooseRival("");
  go(link("chat", chosen.id));
}

/** Returns the other model's answer to the question before the answer at `place`, unless it is the same answer. */
export function besideOf(place: number, question: Content): Message | null {
  const asks = (message: Message) => message.role === "user" && textOf(message.content) === textOf(question);
  const nth = messages.value.slice(0, place).filter(asks).length;
  const theirs = rival.messages.value;
  let seen = 0;
  for (const [at, message] of theirs.entries()) {
    if (asks(message)) seen += 1;
    const found = theirs[at + 1];
    if (seen === nth && asks(message) && found) {
      return messages.value[place]?.response === found.response ? null : found;
    }
  }
  return null;
}

export async function stop(): Promise<void> {
  await Promise.all([main.stop(), rival.stop()]);
}

/** Asks a question again that was not answered. */
export async function retry(talk: Talk): Promise<void> {
  const asked = talk.turn.peek();
  const other = rivalTarget.peek();
  if (!asked) return;
  talk.turn.value = null;
  if (talk === main) await ask(asked.question);
  else if (other) await rival.ask(asked.question, other, settings.peek());
}

/** Asks `question` in place of the message at `place`, in a new branch. */
export async function askInstead(place: number, question: Content): Promise<void> {
  const now = session.peek();
  const who = target.peek();
  if (!now || !who || isAnswering.peek()) return;
  try {
    const { pending: _pending, ...about } = metadataOf(now);
    const copy = await branch(now, place, now.app, { ...about, root: about.root ?? now.id });
    const said = await readMessages(copy.id);
    main.show(copy, said);
    rival.leave();
    remember("open", copy.id);
    go(link("chat", copy.id));
    await ask(question);
  } catch (error) {
    openError.value = sentence(error);
  }
}

export async function rename(which: Session, title: string): Promise<void> {
  const now = await changeSession(which, { title });
  if (session.peek()?.id === now.id) session.value = now;
  await look();
}

/** Finds the session beside the open conversation again after a reload. */
async function findBeside(): Promise<void> {
  const now = session.peek();
  if (!now || rival.session.peek() || rival.turn.peek() || wantedRival.peek()) return;
  const found = sessions.peek().find((each) => metadataOf(each).beside === now.id);
  if (!found) return;
  wantedRival.value = metadataOf(found).target ?? found.app;
  const said = await readMessages(found.id);
  if (session.peek()?.id !== now.id || rival.session.peek()) return;
  rival.show(found, said);
  await rival.takeUp();
}

export async function remove(which: Session): Promise<void> {
  await removeSession(which.id);
  const store = metadataOf(which).settings?.documents;
  const all = (await listSessions("", "", Number.POSITIVE_INFINITY)).data;
  for (const each of all) if (metadataOf(each).beside === which.id) await removeSession(each.id);
  // Branches share their documents.
  if (store && !all.some((each) => metadataOf(each).settings?.documents === store)) await removeStore(store);
  if (session.peek()?.id === which.id) startNew();
  await look();
}

/** Changes where a session is in the list. */
async function place(which: Session, change: (about: Metadata) => Metadata): Promise<void> {
  const changed = await changeSession(which, { metadata: change(metadataOf(which)) });
  if (session.peek()?.id === which.id) session.value = changed;
  await look();
}

/** Pins a session, or unpins it. */
export function pin(which: Session): Promise<void> {
  return place(which, ({ pinned, ...others }) => (pinned ? others : { ...others, pinned: true }));
}

/** Moves a session into a folder, or out of its folder if the name is empty. */
export function moveTo(which: Session, folder: string): Promise<void> {
  return place(which, ({ folder: _before, ...others }) => (folder ? { ...others, folder } : others));
}

export async function configure(chosen: Settings): Promise<void> {
  settings.value = chosen;
  const now = session.peek();
  if (!now) return;
  const changed = await changeSession(now, { metadata: { ...metadataOf(now), settings: chosen } });
  if (session.peek()?.id === changed.id) session.value = changed;
}

/** Adds a document to the store of this conversation, or to a shared store. */
export async function attachDocument(file: File, into: string): Promise<void> {
  const before = settings.peek();
  const own = into === CONVERSATION;
  const store = own ? (before.documents ?? (await makeStore())) : into;
  const stores = before.stores ?? [];
  const reads = target.peek()?.kind === "model" && !own && !stores.includes(store);
  await configure({
    ...settings.peek(),
    into,
    ...(own ? { documents: store } : {}),
    ...(reads ? { stores: [...stores, store] } : {}),
  });
  await addTo(store, file);
}

/** Follows the address. At the start, reopens the last conversation. */
export function watchConversations(): void {
  const last = recall("open");
  if (!location.hash && last) go(link("chat", last), true);
  effect(() => {
    if (route.value.view === "chat") {
      const id = route.value.rest[0] ?? "";
      queueMicrotask(() => open(id));
    }
  });
  effect(() => {
    if (status.value && apps.value) queueMicrotask(() => look());
  });
  effect(() => {
    if (sessions.value.length && session.value)
      queueMicrotask(() => findBeside().catch((error) => (openError.value = sentence(error))));
  });
}
