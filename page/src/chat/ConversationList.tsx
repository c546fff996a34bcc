import { useRef, useState } from "preact/hooks";
import { sentence } from "../api";
import { age, moment } from "../format";
import { Blocks } from "../parts/Blocks";
import { Menu } from "../parts/Menu";
import { Next } from "../parts/Table";
import { removed, removeLater } from "../parts/Undo";
import { FormDialog, Trouble } from "../parts/ui";
import { link } from "../route";
import type { Session } from "../types";
import { t } from "../words/words";
import { exportConversation } from "./ChatView";
import {
  hasMore,
  listError,
  look,
  messages,
  pin,
  remove,
  rename,
  search,
  session,
  sessions,
  startNew,
} from "./conversation";
import { metadataOf, readMessages, titleOf } from "./sessions";

const SEARCH_PAUSE_MS = 200;
const ROW_HEIGHT_PX = 51;

/**
 * Conversations, most recently used first. A branched conversation is listed once, by its most recently used branch;
 * conversations beside another one are not listed.
 */
export function ConversationList({ onOpen }: { onOpen: () => void }) {
  const timer = useRef(0);
  const families = new Set<string>();
  const stands = (each: Session) => (metadataOf(each).beside ? 1 : 0);
  const ordered = [...sessions.value].sort((one, other) => stands(one) - stands(other));
  const listed = ordered.filter((each) => {
    if (removed.value.has(each.id)) return false;
    const root = metadataOf(each).root ?? each.id;
    if (families.has(root)) return each.id === session.value?.id;
    families.add(root);
    return true;
  });
  return (
    <nav class="conversations" aria-label={t("conversations")}>
      <input
        type="search"
        id="search"
        defaultValue={search.peek()}
        placeholder={t("conversations.search")}
        aria-label={t("conversations.search")}
        onInput={(event) => {
          search.value = event.currentTarget.value.trim();
          clearTimeout(timer.current);
          timer.current = window.setTimeout(() => look(), SEARCH_PAUSE_MS);
        }}
      />
      <Trouble error={listError.value} retry={() => look()} />
      <Blocks as="ul" rows={grouped(listed)} height={ROW_HEIGHT_PX}>
        {(each) =>
          typeof each === "string" ? (
            <li key={each} class="group">
              {t(each)}
            </li>
          ) : (
            <Row key={each.id} session={each} current={session.value?.id === each.id} onOpen={onOpen} />
          )
        }
      </Blocks>
      {hasMore.value && <Next load={() => look(true)} after={sessions.value} />}
      {!listed.length && !listError.value && (
        <p class="soft">{search.value ? t("conversations.noneFound") : t("conversations.none")}</p>
      )}
    </nav>
  );
}

type Group = "conversations.pinned" | `conversations.${ReturnType<typeof age>}`;

/** Returns pinned conversations first, then the others grouped by day of last use, with group names in between. */
function grouped(listed: Session[]): (Session | Group)[] {
  const groups = new Map<Group, Session[]>([["conversations.pinned", []]]);
  for (const each of listed) {
    const group: Group = metadataOf(each).pinned
      ? "conversations.pinned"
      : `conversations.${age(each.updated_at)}`;
    groups.set(group, [...(groups.get(group) ?? []), each]);
  }
  return [...groups].flatMap(([group, members]) => (members.length ? [group, ...members] : []));
}

function Row(props: { session: Session; current: boolean; onOpen: () => void }) {
  const { session: each, current, onOpen } = props;
  const [renaming, setRenaming] = useState(false);
  const [error, setError] = useState("");
  const save = async (kind: "md" | "json") =>
    exportConversation(kind, each, current ? messages.value : await readMessages(each.id));
  const discard = () => {
    if (current) startNew();
    const label = t("conversations.deleted", { title: titleOf(each) });
    removeLater({ id: each.id, label, send: () => remove(each) });
  };
  const attempt = (work: Promise<void>) => work.catch((caught) => setError(sentence(caught)));
  return (
    <li class={current ? "current" : ""}>
      <a href={link("chat", each.id)} aria-current={current ? "page" : undefined} onClick={onOpen}>
        <span class="title">{titleOf(each)}</span>
        <span class="soft">
          {each.app} · {moment(each.updated_at)}
        </span>
      </a>
      <Menu name={titleOf(each)}>
        <button type="button" onClick={() => setRenaming(true)}>
          {t("rename")}
        </button>
        <button type="button" onClick={() => attempt(pin(each))}>
          {t(metadataOf(each).pinned ? "conversations.unpin" : "conversations.pin")}
        </button>
        {(["md", "json"] as const).map((kind) => (
          <button key={kind} type="button" onClick={() => attempt(save(kind))}>
            {t(`export.${kind}`)}
          </button>
        ))}
        <button type="button" class="danger" onClick={discard}>
          {t("delete")}
        </button>
      </Menu>
      <Trouble error={error} />
      {renaming && (
        <FormDialog
          title={t("rename")}
          does={t("save")}
          onSend={async (form) => {
            const title = String(form.get("title")).trim();
            if (title) await rename(each, title);
          }}
          onClose={() => setRenaming(false)}
        >
          <input name="title" aria-label={t("rename")} maxLength={500} defaultValue={titleOf(each)} />
        </FormDialog>
      )}
    </li>
  );
}
