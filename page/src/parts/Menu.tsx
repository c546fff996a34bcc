// The further actions of a card or a view, behind one button.

import type { ComponentChildren } from "preact";
import { useId, useRef } from "preact/hooks";
import { t } from "../words/words";
import { Icon } from "./Icon";

const GAP_PX = 4;
/** The share of the window's height below which a menu opens upwards. */
const LOWEST = 0.65;

/** A menu of buttons and links. Esc, a click beside it or a choice closes it. */
export function Menu({ name, children }: { name: string; children: ComponentChildren }) {
  const id = useId();
  const opener = useRef<HTMLButtonElement>(null);
  const list = useRef<HTMLDivElement>(null);
  const place = () => {
    if (!opener.current || !list.current) return;
    const { top, bottom, right } = opener.current.getBoundingClientRect();
    const isUpwards = bottom > innerHeight * LOWEST;
    Object.assign(list.current.style, {
      top: isUpwards ? "auto" : `${bottom + GAP_PX}px`,
      bottom: isUpwards ? `${innerHeight - top + GAP_PX}px` : "auto",
      right: `${document.documentElement.clientWidth - right}px`,
    });
  };
  return (
    <>
      <button
        type="button"
        class="quiet more"
        ref={opener}
        popovertarget={id}
        aria-label={t("actions.more", { name })}
        title={t("actions.more", { name })}
      >
        <Icon name="more" />
      </button>
      {/* biome-ignore lint/a11y/useKeyWithClickEvents: a choice by the keyboard is a click too */}
      {/* biome-ignore lint/a11y/noStaticElementInteractions: the buttons inside are the actions */}
      <div
        id={id}
        class="menu"
        ref={list}
        popover="auto"
        onBeforeToggle={place}
        onClick={() => list.current?.hidePopover()}
      >
        {children}
      </div>
    </>
  );
}
