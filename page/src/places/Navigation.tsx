// The navigation of the page: its three places, and the sections of the open place with the counts that matter.

import { session, startNew } from "../chat/conversation";
import { count } from "../format";
import { Icon } from "../parts/Icon";
import { go, link } from "../route";
import { apps, status } from "../status";
import { t } from "../words/words";
import {
  GROUPS,
  openPlace,
  openSection,
  PLACE_ICONS,
  PLACES,
  type Place,
  SECTION_ICONS,
  type Section,
} from "./places";
import { trail } from "./trail";

/** Links to the places: at the top of the side, or in the bar at the bottom of a narrow screen. */
export function PlaceLinks(props: { class: "views" | "bar"; onOpen: () => void }) {
  const open = openPlace();
  return (
    <nav class={props.class} aria-label={t("views")}>
      {PLACES.map((place) => (
        <a
          key={place}
          href={link(place)}
          aria-current={place === open ? "page" : undefined}
          onClick={(event) => {
            if (place === "chat") {
              event.preventDefault();
              if (session.value && open !== "chat") go(link("chat", session.value.id));
              else startNew();
            }
            props.onOpen();
          }}
        >
          <Icon name={PLACE_ICONS[place]} /> {t(`view.${place}`)}
        </a>
      ))}
    </nav>
  );
}

interface Badge {
  text: string;
  title?: string;
  isBad?: boolean;
}

/** Returns what the status of the daemon says about a section, if it says anything. */
function badgeOf(section: Section): Badge | undefined {
  const now = status.value;
  if (!now) return undefined;
  if (section === "documents") {
    const sum = (name: "total" | "in_progress" | "failed") =>
      now.stores.reduce((total, store) => total + store.file_counts[name], 0);
    const [total, waiting, failed] = [sum("total"), sum("in_progress"), sum("failed")];
    if (waiting) {
      const done = total - waiting;
      return { text: `${count(done)}/${count(total)}`, title: t("badge.indexing", { done, total }) };
    }
    if (failed) return { text: count(failed), title: t("badge.failed", { count: failed }), isBad: true };
    return now.stores.length ? { text: count(now.stores.length) } : undefined;
  }
  if (section === "models") {
    const failed = now.models.filter((model) => model.state === "failed").length;
    if (failed) return { text: count(failed), title: t("badge.failed", { count: failed }), isBad: true };
    const [ready, total] = [now.models.filter((model) => model.state === "ready").length, now.models.length];
    return total ? { text: `${ready}/${total}`, title: t("badge.loaded", { ready, total }) } : undefined;
  }
  if (section === "apps" && apps.value.length) return { text: count(apps.value.length) };
  return undefined;
}

/** The sections of a place: beside the view, or as the first view of the place on a narrow screen. */
export function SectionLinks(props: { place: Place; onOpen?: () => void }) {
  const open = openSection(props.place);
  return (
    <nav class="sectionlinks" aria-label={t(`view.${props.place}`)}>
      {GROUPS[props.place].map((group) => (
        <div key={group.name} class="group">
          {group.name && <p class="heading">{t(`group.${group.name}`)}</p>}
          {group.sections.map((section) => {
            const badge = badgeOf(section);
            return (
              <a
                key={section}
                href={link(props.place, section)}
                aria-current={section === open ? "page" : undefined}
                onClick={props.onOpen}
              >
                <Icon name={SECTION_ICONS[section]} />
                <span class="grow">{t(`section.${section}`)}</span>
                {badge && (
                  <span class={`badge ${badge.isBad ? "bad" : ""}`} title={badge.title}>
                    {badge.text}
                  </span>
                )}
              </a>
            );
          })}
        </div>
      ))}
    </nav>
  );
}

/** The way to the open view: place, section, and the steps that the view adds. */
export function Crumbs({ place, section }: { place: Place; section: Section }) {
  const steps = [
    { label: t(`view.${place}`), address: link(place) },
    { label: t(`section.${section}`), address: link(place, section) },
    ...trail.value,
  ];
  return (
    <nav class="crumbs" aria-label={t("crumbs")}>
      {steps.map((step, at) => (
        <span key={step.address ?? step.label}>
          {at > 0 && <span aria-hidden="true"> › </span>}
          {step.address && at < steps.length - 1 ? (
            <a href={step.address}>{step.label}</a>
          ) : (
            <span aria-current="page">{step.label}</span>
          )}
        </span>
      ))}
    </nav>
  );
}
