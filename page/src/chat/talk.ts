// A conversation in progress: its session, its messages and the pending question. The page has one, and a second one
// when another model answers too.

import { batch, computed, signal } from "@preact/signals";
import { ApiError, sentence } from "../api";
import { isAgent, type Target } from "../status";
import type { Session } from "../types";
import { t } from "../words/words";
import type { Content } from "./content";
import {
  branch,
  changeSession,
  getSession,
  headline,
  keepTurn,
  type Message,
  type Metadata,
  metadataOf,
  openSession,
  type Rating,
  rateMessage,
  readMessages,
  removeSession,
  type Settings,
  textOf,
} from "./sessions";
import { questionOf, Turn } from "./turn";

export class Talk {
  readonly session = signal<Session | null>(null);
  readonly messages = signal<Message[]>([]);
  readonly turn = signal<Turn | null>(null);
  readonly isAnswering = computed(() => {
    const state = this.turn.value?.answer.value.state;
    return state === "asking" || state === "streaming";
  });

  /** `onChange` is called when the list of conversations must be updated. */
  constructor(private readonly onChange: () => void) {}

  /** Closes the conversation. An answer in progress continues. */
  leave(): void {
    this.turn.peek()?.leave();
    batch(() => {
      this.turn.value = null;
      this.session.value = null;
      this.messages.value = [];
    });
  }

  /** Shows a session with its messages and no pending question. */
  show(found: Session, said: Message[]): void {
    batch(() => {
      this.session.value = found;
      this.messages.value = said;
      this.turn.value = null;
    });
  }

  /** Follows an answer that was started before this page was opened. */
  async takeUp(): Promise<void> {
    const found = this.session.peek();
    const about = found ? metadataOf(found) : {};
    if (!found || !about.pending) return;
    const known = this.messages.peek().some((message) => message.response === about.pending?.response);
    try {
      const asked = new Turn(await questionOf(about.pending.response), about.target ?? found.app);
      asked.resume(about.pending);
      if (this.session.peek()?.id !== found.id || known) return;
      this.turn.value = asked;
      await this.finish(asked, found);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404) throw error;
      await this.settle(found); // the answer has been deleted in the meantime
    }
  }

  /**
   * Asks a question in the session, which is created if necessary with `about` in its metadata. `onBegun` receives the
   * session once the daemon has acknowledged the question, unless the user has left the conversation.
   */
  async ask(
    question: Content,
    who: Target,
    settings: Settings,
    about: Metadata = {},
    onBegun: (now: Session) => void = () => undefined,
  ): Promise<void> {
    const asked = new Turn(question, who.name);
    let begun: Session | null = null;
    this.turn.value = asked;
    try {
      let now = this.session.peek();
      const agent = isAgent(who.name);
      const history = this.messages.peek();
      if (now && who.name !== now.app && (agent || isAgent(now.app))) {
        now = begun = await branch(now, history.length, who.name, { settings });
      }
      if (!now) {
        now = begun = await openSession(who.name, headline(textOf(question)), { ...about, settings });
      }
      const pending = await asked.begin({
        model: who.name,
        agent,
        session: now.id,
        history,
        question,
        settings,
        isModel: who.kind === "model",
      });
      const metadata = { ...metadataOf(now), ...about, target: who.name, settings, pending };
      now = await changeSession(now, { metadata });
      if (this.turn.peek() === asked) {
        this.session.value = now;
        onBegun(now);
      }
      this.onChange();
      await this.finish(asked, now);
    } catch (error) {
      if (begun && !asked.pending) removeSession(begun.id).catch(() => undefined);
      this.fail(asked, error);
    }
  }

  /** Stops the answer. */
  async stop(): Promise<void> {
    const asked = this.turn.peek();
    if (!asked || !this.isAnswering.peek()) return;
    try {
      await asked.stop();
    } catch (error) {
      this.fail(asked, error);
    }
  }

  /** Discards a question that was not answered. */
  dismiss(): void {
    const now = this.session.peek();
    this.turn.value = null;
    if (now && metadataOf(now).pending) this.settle(now).catch(() => undefined);
  }

  /** Stores the rating of an answer. Null removes the rating. */
  async rate(message: Message, rating: Rating | null): Promise<void> {
    const now = this.session.peek();
    if (!now) return;
    await rateMessage(now.id, message.seq, rating);
    if (this.session.peek()?.id !== now.id) return;
    this.messages.value = this.messages
      .peek()
      .map((each) => (each.seq === message.seq ? { ...each, rating } : each));
  }

  private fail(asked: Turn, error: unknown): void {
    if (error instanceof DOMException) return;
    asked.answer.value = { ...asked.answer.peek(), state: "failed", stage: "", error: sentence(error) };
  }

  /** Follows an answer to its end and stores it. */
  private async finish(asked: Turn, now: Session): Promise<void> {
    try {
      await asked.follow();
      const answer = asked.answer.peek();
      const agent = isAgent(now.app);
      const keeps = answer.state === "done" || (answer.state === "stopped" && answer.text !== "");
      const { instructions } = metadataOf(now).settings ?? {};
      if (keeps && !agent) {
        await keepTurn(now, asked.question, answer, asked.pending?.response ?? "", instructions);
      }
      if (keeps || agent) await this.settle(now);
      if (!keeps && answer.state === "stopped") asked.answer.value = { ...answer, error: t("chat.stopped") };
      if (this.turn.peek() !== asked) return;
      if (keeps && !(agent && answer.state === "stopped")) {
        const said = await readMessages(now.id);
        const last = said.at(-1);
        // Only the events report the usage of an agent.
        if (agent && last) Object.assign(last, { usage: answer.usage, milliseconds: answer.milliseconds });
        if (this.turn.peek() !== asked) return;
        batch(() => {
          this.messages.value = said;
          this.turn.value = null;
        });
      }
      this.onChange();
    } catch (error) {
      this.fail(asked, error);
    }
  }

  /** Removes the pending answer from the metadata of a session. */
  private async settle(now: Session): Promise<void> {
    const current = await getSession(now.id);
    const { pending: _ended, ...about } = metadataOf(current);
    const settled = await changeSession(current, { metadata: about });
    if (this.session.peek()?.id === settled.id) this.session.value = settled;
  }
}
