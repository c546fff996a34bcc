// The conversation that is open: what was said, who is talked to, what is being asked.

import { batch, computed, effect, signal } from "@preact/signals";
import { ApiError, sentence } from "../api";
import { recall, remember } from "../kept";
import { go, link, route } from "../route";
import { apps, isAgent, status, type Target, targets } from "../status";
import type { Content, Session } from "../types";
import { t } from "../words/words";
import type { Shown } from "./media";
import {
  branch,
  changeSession,
  getSession,
  headline,
  keepTurn,
  listSessions,
  type Message,
  type Metadata,
  metadataOf,
  openSession,
  readMessages,
  removeSession,
  type Settings,
  textOf,
} from "./sessions";
import { questionOf, Turn } from "./turn";

export const sessions = signal<Session[]>([]);
export const search = signal("");
export const listError = signal("");

export const session = signal<Session | null>(null);
export const messages = signal<Message[]>([]);
export const turn = signal<Turn | null>(null);
export const openError = signal("");

/** What a model that draws or speaks has made. It is not kept, and gone with the page. */
export interface MadeTurn {
  id: number;
  prompt: string;
  files: Shown[];
  error: string;
  busy: boolean;
}

export const made = signal<MadeTurn[]>([]);

/** Put what was made at the end, or in the place of what was there under its id. */
export function putMade(turn: MadeTurn): void {
  const known = made.value.some((each) => each.id === turn.id);
  made.value = known ? made.value.map((each) => (each.id === turn.id ? turn : each)) : [...made.value, turn];
}
/** System prompt and parameters of a conversation that has not begun. */
export const settings = signal<Settings>({});

const wanted = signal(recall("target"));

/** Who is talked to: who was chosen if it is there, else the first. */
export const target = computed<Target | null>(() => {
  const known = targets();
  return known.find((each) => each.name === wanted.value) ?? known[0] ?? null;
});

export const isAnswering = computed(() => {
  const state = turn.value?.answer.value.state;
  return state === "asking" || state === "streaming";
});

/** The branches of the conversation that is open, oldest first; empty if it has one alone. */
export const branches = computed<Session[]>(() => {
  const now = session.value;
  if (!now) return [];
  const root = metadataOf(now).root ?? now.id;
  const found = sessions.value.filter((each) => (metadataOf(each).root ?? each.id) === root);
  return found.length > 1 ? found.sort((one, other) => one.created_at - other.created_at) : [];
});

let looking: AbortController | null = null;

export async function look(): Promise<void> {
  looking?.abort();
  looking = new AbortController();
  try {
    sessions.value = await listSessions(search.peek(), looking.signal);
    listError.value = "";
  } catch (error) {
    if (!(error instanceof DOMException)) listError.value = sentence(error);
  }
}

export function choose(name: string): void {
  wanted.value = name;
  remember("target", name);
}

/** Begin a new conversation. What is being answered is answered all the same. */
export function startNew(): void {
  go(link("chat"));
  remember("open", "");
}

function leave(): void {
  turn.peek()?.leave();
  batch(() => {
    turn.value = null;
    session.value = null;
    messages.value = [];
    made.value = [];
    openError.value = "";
    settings.value = {};
  });
}

/** Open what the address names. */
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
      session.value = found;
      messages.value = said;
      settings.value = about.settings ?? {};
      wanted.value = about.target ?? found.app;
    });
    if (about.pending) await takeUp(found, about);
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) remember("open", "");
    openError.value = sentence(error);
  }
}

/** An answer that was begun before this page was opened. */
async function takeUp(found: Session, about: Metadata): Promise<void> {
  if (!about.pending) return;
  const known = messages.peek().some((message) => message.response === about.pending?.response);
  const model = about.target ?? found.app;
  try {
    const asked = new Turn(await questionOf(about.pending.response), model);
    asked.resume(about.pending);
    if (session.peek()?.id !== found.id || known) return;
    turn.value = asked;
    await finish(asked, found);
  } catch (error) {
    if (!(error instanceof ApiError) || error.status !== 404) throw error;
    await settle(found); // it was forgotten meanwhile
  }
}

/** Ask within the conversation that is open; one is begun if none is. */
export async function ask(question: Content): Promise<void> {
  const who = target.peek();
  if (!who || isAnswering.peek()) return;
  const asked = new Turn(question, who.name);
  let begun: Session | null = null;
  turn.value = asked;
  try {
    let now = session.peek();
    const agent = isAgent(who.name);
    const history = messages.peek();
    if (now && who.name !== now.app && (agent || isAgent(now.app))) {
      now = begun = await branch(now, history.length, who.name, { settings: settings.peek() });
    }
    if (!now) {
      now = begun = await openSession(who.name, headline(textOf(question)), {
        settings: settings.peek(),
      });
    }
    const pending = await asked.begin({
      model: who.name,
      agent,
      session: now.id,
      history,
      question,
      settings: settings.peek(),
    });
    const about: Metadata = { ...metadataOf(now), target: who.name, settings: settings.peek(), pending };
    now = await changeSession(now, { metadata: about });
    if (turn.peek() === asked) {
      session.value = now;
      remember("open", now.id);
      go(link("chat", now.id), true);
    }
    look();
    await finish(asked, now);
  } catch (error) {
    if (begun && !asked.pending) removeSession(begun.id).catch(() => undefined);
    fail(asked, error);
  }
}

function fail(asked: Turn, error: unknown): void {
  if (error instanceof DOMException) return;
  asked.answer.value = { ...asked.answer.peek(), state: "failed", stage: "", error: sentence(error) };
}

/** Follow an answer to its end and keep it. */
async function finish(asked: Turn, now: Session): Promise<void> {
  try {
    await asked.follow();
    const answer = asked.answer.peek();
    const agent = isAgent(now.app);
    const keeps = answer.state === "done" || (answer.state === "stopped" && answer.text !== "");
    if (keeps && !agent) await keepTurn(now, asked.question, answer, asked.pending?.response ?? "");
    if (keeps || agent) await settle(now);
    if (!keeps && answer.state === "stopped") asked.answer.value = { ...answer, error: t("chat.stopped") };
    if (turn.peek() !== asked) return;
    if (keeps && !(agent && answer.state === "stopped")) {
      const said = await readMessages(now.id);
      const last = said.at(-1);
      // What an agent used is known from its events alone.
      if (agent && last) Object.assign(last, { usage: answer.usage, milliseconds: answer.milliseconds });
      if (turn.peek() !== asked) return;
      batch(() => {
        messages.value = said;
        turn.value = null;
      });
    }
    look();
  } catch (error) {
    fail(asked, error);
  }
}

/** Nothing is being answered in it any more. */
async function settle(now: Session): Promise<void> {
  const current = await getSession(now.id);
  const { pending: _ended, ...about } = metadataOf(current);
  const settled = await changeSession(current, { metadata: about });
  if (session.peek()?.id === settled.id) session.value = settled;
}

export async function stop(): Promise<void> {
  const asked = turn.peek();
  if (!asked || !isAnswering.peek()) return;
  try {
    await asked.stop();
  } catch (error) {
    fail(asked, error);
  }
}

/** Ask a question again that was not answered. */
export async function retry(): Promise<void> {
  const asked = turn.peek();
  if (!asked) return;
  turn.value = null;
  await ask(asked.question);
}

export function dismiss(): void {
  const now = session.peek();
  turn.value = null;
  if (now && metadataOf(now).pending) settle(now).catch(() => undefined);
}

/** Go back to before the message at `place` and ask `question` there, in a branch of its own. */
export async function askInstead(place: number, question: Content): Promise<void> {
  const now = session.peek();
  const who = target.peek();
  if (!now || !who || isAnswering.peek()) return;
  try {
    const { pending: _pending, ...about } = metadataOf(now);
    const copy = await branch(now, place, now.app, { ...about, root: about.root ?? now.id });
    const said = await readMessages(copy.id);
    batch(() => {
      session.value = copy;
      messages.value = said;
      turn.value = null;
    });
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

export async function remove(which: Session): Promise<void> {
  await removeSession(which.id);
  if (session.peek()?.id === which.id) startNew();
  await look();
}

export async function configure(chosen: Settings): Promise<void> {
  settings.value = chosen;
  const now = session.peek();
  if (now) session.value = await changeSession(now, { metadata: { ...metadataOf(now), settings: chosen } });
}

/** The page follows the address, and comes back to the conversation that was open last. */
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
    if (status.value && apps.value) queueMicrotask(look);
  });
}
