// Chat completions that were requested with `store`: their messages, answers and labels.

import { json, type ListPage, part } from "../api";
import { moment } from "../format";
import { IconButton } from "../parts/Icon";
import { readPairs, writePairs } from "../parts/pairs";
import { soft, Table } from "../parts/Table";
import { removeLater, useRemaining } from "../parts/Undo";
import { Dialog, Listing, Trouble, useLoaded, usePages, useWork } from "../parts/ui";
import { go, link, route } from "../route";
import { t } from "../words/words";

const BASE = "/v1/chat/completions";
const MAX_TITLE_CHARS = 120;

interface StoredChat {
  id: string;
  created: number;
  model: string;
  metadata: Record<string, string>;
  choices: { message: { content: string | null } }[];
}

interface StoredMessage {
  id: string;
  role: string;
  content: string | null;
  content_parts: { type: string; text?: string }[] | null;
}

function answerOf(chat: StoredChat): string {
  return chat.choices[0]?.message.content ?? "";
}

export function View() {
  const found = useRemaining(
    usePages((after) => json<ListPage<StoredChat>>(`${BASE}?limit=100&order=desc${after}`), BASE),
  );
  const opened = route.value.rest[1];
  const remove = (chat: StoredChat) =>
    removeLater({
      id: chat.id,
      label: t("chats.deleted"),
      send: async () => {
        await json(`${BASE}/${part(chat.id)}`, { method: "DELETE" });
        found.reload();
      },
    });
  return (
    <>
      <h1>{t("section.chats")}</h1>
      <Listing found={found} none={t("chats.none")} note={t("chats.noneNote")}>
        {(listed) => (
          <Table
            label={t("section.chats")}
            id="chats"
            rows={listed}
            next={found.next}
            keyOf={(chat) => chat.id}
            text={(chat) =>
              `${answerOf(chat)} ${chat.model} ${writePairs(chat.metadata).join(" ")} ${chat.id}`
            }
            columns={[
              {
                head: t("evals.answer"),
                cell: (chat) => (
                  <a href={link("run", "chats", chat.id)}>
                    {answerOf(chat).slice(0, MAX_TITLE_CHARS) || chat.id}
                  </a>
                ),
              },
              { head: t("usage.by.model"), class: soft, cell: (chat) => chat.model },
              { head: t("chats.labels"), class: soft, cell: (chat) => writePairs(chat.metadata).join(", ") },
              { head: t("runs.began"), class: soft, cell: (chat) => moment(chat.created) },
              {
                head: t("actions"),
                quiet: true,
                cell: (chat) => (
                  <IconButton
                    icon="remove"
                    label={t("chats.delete", { id: chat.id })}
                    onClick={() => remove(chat)}
                  />
                ),
              },
            ]}
          />
        )}
      </Listing>
      {opened && <ChatDialog key={opened} id={opened} onChange={found.reload} />}
    </>
  );
}

/** One stored chat: its messages with the answer, and the form that changes its labels. */
function ChatDialog({ id, onChange }: { id: string; onChange: () => void }) {
  const path = `/v1/chat/completions/${part(id)}`;
  const chat = useLoaded(() => json<StoredChat>(path), path);
  const messages = usePages(
    (after) => json<ListPage<StoredMessage>>(`${path}/messages?limit=100${after}`),
    path,
  );
  const [busy, error, work] = useWork();
  const save = (text: string) =>
    work(async () => {
      await json(path, { json: { metadata: readPairs(text) } });
      chat.reload();
      onChange();
    });
  return (
    <Dialog title={chat.value?.model ?? id} onClose={() => go(link("run", "chats"))} side>
      <Trouble error={chat.error || messages.error} retry={chat.retry} />
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
      <section class="document chunks" tabIndex={0} aria-label={t("conversations.one")}>
        {messages.value?.map((message) => (
          <Said key={message.id} by={message.role} text={textOf(message)} />
        ))}
        {messages.next && (
          <button type="button" onClick={messages.next}>
            {t("more")}
          </button>
        )}
        {chat.value && <Said by="assistant" text={answerOf(chat.value)} />}
      </section>
      {chat.value && (
        <form
          class="fields"
          onSubmit={(event) => {
            event.preventDefault();
            save(String(new FormData(event.currentTarget).get("labels")));
          }}
        >
          <label>
            <span>{t("chats.labels")}</span>
            <textarea name="labels" rows={3} defaultValue={writePairs(chat.value.metadata).join("\n")} />
            <small class="soft">{t("chats.labelsNote")}</small>
          </label>
          <Trouble error={error} />
          <div class="actions">
            <button type="submit" disabled={busy}>
              {t("save")}
            </button>
          </div>
        </form>
      )}
    </Dialog>
  );
}

function textOf(message: StoredMessage): string {
  return (
    message.content ?? message.content_parts?.map((each) => each.text ?? `[${each.type}]`).join("\n") ?? ""
  );
}

function Said({ by, text }: { by: string; text: string }) {
  return (
    <div>
      <p class="soft">{by}</p>
      <pre>{text}</pre>
    </div>
  );
}
