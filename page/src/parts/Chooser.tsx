// Lists of choices that are operated with the arrow keys and Enter while the focus stays in a field.

import { useEffect, useId, useRef, useState } from "preact/hooks";

export interface Choice {
  id: string;
  label: string;
  note?: string;
  group?: string;
}

/** Returns the choices that contain all words of a text. */
export function matching<C extends Choice>(choices: C[], typed: string): C[] {
  const words = typed.toLowerCase().split(/\s+/).filter(Boolean);
  return choices.filter((choice) => {
    const text = `${choice.label} ${choice.note ?? ""} ${choice.group ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

/** Returns whether a key belongs to an input method. Safari's Enter that ends a composition has the code 229 only. */
export function isComposing(event: KeyboardEvent): boolean {
  return event.isComposing || event.keyCode === 229;
}

/** The marked choice of a list, and the attributes and keys of the field that operates the list. */
export function useChoices<C extends Choice>(choices: C[], onChoose: (choice: C) => void) {
  const [at, setAt] = useState(0);
  const id = useId();
  const mark = Math.min(at, Math.max(0, choices.length - 1));
  /** Returns whether the list has used the key. */
  const takeKey = (event: KeyboardEvent): boolean => {
    if (isComposing(event)) return false;
    const step = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
    if (!step && event.key !== "Enter") return false;
    event.preventDefault();
    const chosen = choices[mark];
    if (step) setAt((mark + step + choices.length) % Math.max(1, choices.length));
    else if (chosen) onChoose(chosen);
    return true;
  };
  const field = {
    "aria-controls": id,
    "aria-activedescendant": choices.length ? `${id}-${mark}` : undefined,
  };
  return { id, mark, setMark: setAt, takeKey, field };
}

/** The list of a field. */
export function ChoiceList<C extends Choice>(props: {
  list: ReturnType<typeof useChoices<C>>;
  choices: C[];
  label: string;
  chosen?: string | undefined;
  onChoose: (choice: C) => void;
}) {
  const { id, mark, setMark } = props.list;
  const place = useRef<HTMLDivElement>(null);
  useEffect(() => {
    place.current?.children[mark]?.scrollIntoView({ block: "nearest" });
  }, [mark]);
  return (
    <div role="listbox" id={id} ref={place} aria-label={props.label}>
      {props.choices.map((choice, number) => (
        // biome-ignore lint/a11y/useKeyWithClickEvents: the field handles the keys
        // biome-ignore lint/a11y/useFocusableInteractive: the field has the focus
        <div
          key={choice.id}
          id={`${id}-${number}`}
          role="option"
          data-choice={choice.id}
          aria-selected={number === mark}
          class={choice.id === props.chosen ? "chosen" : ""}
          onClick={() => props.onChoose(choice)}
          onPointerMove={() => setMark(number)}
        >
          <span>{choice.label}</span>
          <span class="soft">{[choice.note, choice.group].filter(Boolean).join(" · ")}</span>
        </div>
      ))}
    </div>
  );
}

/** A list below its own field, which filters it. */
export function Chooser(props: {
  choices: Choice[];
  label: string;
  none: string;
  chosen?: string;
  onChoose: (id: string) => void;
}) {
  const [typed, setTyped] = useState("");
  const matches = matching(props.choices, typed);
  const choose = (choice: Choice) => props.onChoose(choice.id);
  const list = useChoices(matches, choose);
  return (
    <div class="chooser">
      <input
        type="text"
        role="combobox"
        autocomplete="off"
        aria-label={props.label}
        aria-expanded="true"
        {...list.field}
        placeholder={props.label}
        value={typed}
        autofocus
        onInput={(event) => {
          setTyped(event.currentTarget.value);
          list.setMark(0);
        }}
        onKeyDown={list.takeKey}
      />
      <ChoiceList list={list} choices={matches} label={props.label} chosen={props.chosen} onChoose={choose} />
      {!matches.length && <p class="soft">{props.none}</p>}
    </div>
  );
}
