import { signal } from "@preact/signals";
import { useId, useRef, useState } from "preact/hooks";
import { sentence } from "../api";
import { age, moment } from "../format";
import { recall, remember } from "../kept";
import { Blocks } from "../parts/Blocks";
import { Icon } from "../parts/Icon";
import { Menu } from "../parts/Menu";
import { Next } from "../parts/Table";
import { removed, removeLater } from "../parts/Undo";
import { FormDialog, Trouble } from "../parts/ui";
import { link } from "../route";
import type { Session } from "../types";
import { language, t } from "../words/words";
import { exportConversation } from "./ChatView";
import {
  hasMore,
  listError,
  look,
  messages,
  moveTo,
  pin,
  remove,
  rename,
  search,
  session,
  sessions,
  startNew,
} from "./conversation";
import { ShareDialog } from "./ShareDialog";
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
            <GroupHeading key={each} group={each} />
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
/** A folder with its state, so that its heading is drawn again when the state changes. */
type Folder = `open ${string}` | `closed ${string}`;

const CLOSED = "folders.closed";
/** The names of the closed folders. */
const closed = signal<string[]>(JSON.parse(recall(CLOSED) || "[]"));

function foldersOf(listed: Session[]): string[] {
  const names = new Set(listed.flatMap((each) => metadataOf(each).folder ?? []));
  return [...names].sort((one, other) => one.localeCompare(other, language.value));
}

/** Returns pinned conversations, then the folders, then the others by day of last use, below their headings. */
function grouped(listed: Session[]): (Session | Group | Folder)[] {
  const groups = new Map<Group | Folder, Session[]>([["conversations.pinned", []]]);
  const groupOfFolder = (name: string): Folder =>
    `${closed.value.includes(name) ? "closed" : "open"} ${name}`;
  for (const name of foldersOf(listed)) groups.set(groupOfFolder(name), []);
  for (const each of listed) {
    const { pinned, folder } = metadataOf(each);
    const ofDay: Group = `conversations.${age(each.updated_at)}`;
    const group = pinned ? "conversations.pinned" : folder ? groupOfFolder(folder) : ofDay;
    groups.set(group, [...(groups.get(group) ?? []), each]);
  }
  return [...groups].flatMap(([group, members]) => {
    if (!members.length) return [];
    return group.startsWith("closed ") ? [group] : [group, ...members];
  });
}

function GroupHeading({ group }: { group: Group | Folder }) {
  const [, state, name = ""] = /^(open|closed) (.*)$/s.exec(group) ?? [];
  if (!state) return <li class="group">{t(group as Group)}</li>;
  const others = closed.value.filter((each) => each !== name);
  const toggle = () => {
    closed.value = state === "open" ? [...others, name] : others;
    remember(CLOSED, JSON.stringify(closed.value));
  };
  return (
    <li class="group">
      <button type="button" class="folder" aria-expanded={state === "open"} onClick={toggle}>
        <Icon name="folder" /> {name}
      </button>
    </li>
  );
}

function Row(props: { session: Session; current: boolean; onOpen: () => void }) {
  const { session: each, current, onOpen } = props;
  const [opened, setOpened] = useState<"" | "rename" | "move" | "share">("");
  const folders = useId();
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
        <button type="button" onClick={() => setOpened("rename")}>
          {t("rename")}
        </button>
        <button type="button" onClick={() => setOpened("move")}>
          {t("conversations.move")}
        </button>
        <button type="button" onClick={() => attempt(pin(each))}>
          {t(metadataOf(each).pinned ? "conversations.unpin" : "conversations.pin")}
        </button>
        <button type="button" onClick={() => setOpened("share")}>
          {t("share")}
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
      {opened === "share" && <ShareDialog session={each} onClose={() => setOpened("")} />}
      {opened === "move" && (
        <FormDialog
          title={t("conversations.move")}
          does={t("save")}
          onSend={(form) => moveTo(each, String(form.get("folder")).trim())}
          onClose={() => setOpened("")}
        >
          <label>
            <span>{t("conversations.folder")}</span>
            <input
              name="folder"
              list={folders}
              maxLength={100}
              autocomplete="off"
              defaultValue={metadataOf(each).folder ?? ""}
            />
            <small class="soft">{t("conversations.folderNote")}</small>
          </label>
          <datalist id={folders}>
            {foldersOf(sessions.value).map((name) => (
              <option key={name} value={name} />
            ))}
          </datalist>
        </FormDialog>
      )}
      {opened === "rename" && (
        <FormDialog
          title={t("rename")}
          does={t("save")}
          onSend={async (form) => {
            const title = String(form.get("title")).trim();
            if (title) await rename(each, title);
          }}
          onClose={() => setOpened("")}
        >
          <input name="title" aria-label={t("rename")} maxLength={500} defaultValue={titleOf(each)} />
        </FormDialog>
      )}
    </li>
  );
}
