// The frame of the page: navigation, the current view, and problems of the daemon.

import { effect, signal } from "@preact/signals";
import { useLayoutEffect, useState } from "preact/hooks";
import { addressOf } from "./address";
import { LanguageButton } from "./alone/Alone";
import { key, sentence, storeKey } from "./api";
import { ChatView, exportConversation } from "./chat/ChatView";
import { ConversationList } from "./chat/ConversationList";
import { choose, session, startNew } from "./chat/conversation";
import { recall, remember } from "./kept";
import { Chooser } from "./parts/Chooser";
import { Icon, IconButton } from "./parts/Icon";
import { Undo } from "./parts/Undo";
import { Refused, Unlock } from "./parts/Unlock";
import { Dialog, Trouble } from "./parts/ui";
import { PlaceLinks, SectionLinks } from "./places/Navigation";
import { PlaceView } from "./places/PlaceView";
import { openPlace, PLACES, sectionsOf } from "./places/places";
import { go, link } from "./route";
import { person, signOut } from "./signIn";
import { locked, refresh, status, targets, trouble } from "./status";
import type { Problem } from "./types";
import { language, speak, t } from "./words/words";

type Look = "light dark" | "light" | "dark" | "contrast";
const LOOKS: Look[] = ["light dark", "light", "dark", "contrast"];
const appearance = signal<Look>((recall("look") as Look) || "light dark");
const moreContrast = matchMedia("(prefers-contrast: more)");
const isContrastWanted = signal(moreContrast.matches);
moreContrast.addEventListener("change", () => {
  isContrastWanted.value = moreContrast.matches;
});
effect(() => {
  const isContrast = appearance.value === "contrast" || isContrastWanted.value;
  document.documentElement.classList.toggle("contrast", isContrast);
  document.documentElement.style.colorScheme =
    appearance.value === "contrast" ? "light dark" : appearance.value;
  remember("look", appearance.value === "light dark" ? "" : appearance.value);
});

const paletteOpen = signal(false);

function setLanguage(): void {
  speak(language.value === "en" ? "zh" : "en");
}

function setLook(): void {
  appearance.value = LOOKS[(LOOKS.indexOf(appearance.value) + 1) % LOOKS.length] ?? "light dark";
}

export function App() {
  const [drawer, setDrawer] = useState(false);
  const place = openPlace();
  // Before the page is painted, so that no key is lost.
  useLayoutEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const command = event.ctrlKey || event.metaKey;
      if (command && event.key.toLowerCase() === "k") {
        event.preventDefault();
        paletteOpen.value = !paletteOpen.value;
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);
  const closeDrawer = () => setDrawer(false);
  return (
    <div class={`page ${drawer ? "drawn" : ""}`}>
      <header class="top">
        <button
          type="button"
          class="quiet"
          aria-label={t("menu")}
          aria-expanded={drawer}
          onClick={() => setDrawer(!drawer)}
        >
          <Icon name="menu" />
        </button>
        <strong>Portico</strong>
        <IconButton icon="add" label={t("chat.new")} onClick={startNew} />
      </header>
      <aside class="side">
        <div class="brand">
          <span class="grow">
            <strong>Portico</strong> <span class="soft">{status.value?.version}</span>
          </span>
          <IconButton
            icon="search"
            label={`${t("palette")} (Ctrl+K)`}
            onClick={() => {
              paletteOpen.value = true;
            }}
          />
        </div>
        <PlaceLinks class="views" onOpen={closeDrawer} />
        <button
          type="button"
          id="new"
          onClick={() => {
            startNew();
            closeDrawer();
          }}
        >
          <Icon name="add" /> {t("chat.new")}
        </button>
        {place === "chat" ? (
          <ConversationList onOpen={closeDrawer} />
        ) : (
          <SectionLinks place={place} onOpen={closeDrawer} />
        )}
        <footer class="soft">
          <button type="button" class="quiet" onClick={setLook}>
            {t(
              appearance.value === "light dark"
                ? "look.auto"
                : `look.${appearance.value as "light" | "dark" | "contrast"}`,
            )}
          </button>
          <LanguageButton />
          <a href={addressOf("/docs")}>API</a>
          {person.value && !key.value && (
            <button
              type="button"
              class="quiet"
              id="signout"
              title={person.value.name}
              onClick={() => {
                signOut()
                  .then(() => refresh())
                  .catch((error) => {
                    trouble.value = sentence(error);
                  });
              }}
            >
              {t("signIn.out", { name: person.value.name })}
            </button>
          )}
          {key.value && (
            <button
              type="button"
              class="quiet"
              onClick={() => {
                storeKey("", false);
                refresh();
              }}
            >
              {t("key.forget")}
            </button>
          )}
        </footer>
      </aside>
      {drawer && <button type="button" class="shade" aria-label={t("close")} onClick={closeDrawer} />}
      <main>
        <Refused />
        {locked.value && <Unlock />}
        <Trouble error={trouble.value} retry={refresh} />
        <Problems />
        {place === "chat" ? <ChatView /> : <PlaceView place={place} />}
      </main>
      <PlaceLinks class="bar" onOpen={closeDrawer} />
      {paletteOpen.value && <Palette />}
      <Undo />
    </div>
  );
}

/** The problems that the user has dismissed. Any other set of problems is shown. */
const dismissed = signal(recall("problems"));

const asText = (problems: Problem[]) =>
  problems.map(({ name, place, reason }) => `${name} ${place} ${reason}`).join("\n");

function dismiss(problems: string): void {
  dismissed.value = problems;
  remember("problems", problems);
}

/** The entries of the configuration that were left out, with the reasons. */
function Problems() {
  const problems = status.value?.problems ?? [];
  const text = asText(problems);
  if (!problems.length || text === dismissed.value) return null;
  return (
    <div class="card problems" id="problems">
      <details>
        <summary>{t("problems", { count: problems.length })}</summary>
        {/* biome-ignore lint/a11y/noNoninteractiveTabindex: scrollable regions must be reachable by keyboard */}
        <section tabIndex={0} aria-label={t("problems", { count: problems.length })}>
          <ul>
            {problems.map((problem) => (
              <li key={`${problem.place} ${problem.name}`}>
                <strong>{problem.name || problem.place}</strong> <code>{problem.place}</code> {problem.reason}
              </li>
            ))}
          </ul>
        </section>
      </details>
      <IconButton icon="close" label={t("problems.dismiss")} onClick={() => dismiss(text)} />
    </div>
  );
}

/** The command palette: every view and action by name. Ctrl+K opens it. */
function Palette() {
  const close = () => {
    paletteOpen.value = false;
  };
  const actions: { label: string; note: string; does: () => void }[] = [
    { label: t("chat.new"), note: t("view.chat"), does: startNew },
    ...PLACES.flatMap((place) =>
      sectionsOf(place).map((section) => ({
        label: t(`section.${section}`),
        note: t(`view.${place}`),
        does: () => go(link(place, section)),
      })),
    ),
    ...(session.value
      ? (["md", "json"] as const).map((kind) => ({
          label: t(`export.${kind}`),
          note: t("view.chat"),
          does: () => exportConversation(kind),
        }))
      : []),
    { label: language.value === "en" ? "中文" : "English", note: t("language"), does: setLanguage },
    ...(dismissed.value
      ? [
          {
            label: t("problems", { count: status.value?.problems.length ?? 0 }),
            note: t("problems.show"),
            does: () => dismiss(""),
          },
        ]
      : []),
    { label: t("look.change"), note: t("look.auto"), does: setLook },
    ...targets().map((each) => ({
      label: each.name,
      note: t("chat.talkTo"),
      does: () => {
        choose(each.name);
        if (openPlace() !== "chat") startNew();
      },
    })),
    ...(status.value?.stores ?? []).map((store) => ({
      label: store.name,
      note: t("section.documents"),
      does: () => go(link("library", "documents", store.name)),
    })),
  ];
  return (
    <Dialog title={t("palette")} onClose={close}>
      <Chooser
        label={t("filter")}
        none={t("palette.none")}
        choices={actions.map((action, number) => ({
          id: String(number),
          label: action.label,
          note: action.note,
        }))}
        onChoose={(id) => {
          close();
          actions[Number(id)]?.does();
        }}
      />
    </Dialog>
  );
}
