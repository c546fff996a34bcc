"""Dialogs on top of a screen: a form, a choice, a confirmation, a text to read, and the list of keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.suggester import SuggestFromList
from textual.widgets import Button, Input, Label, OptionList, Static, TextArea
from textual.widgets.option_list import Option

Answers = dict[str, str]

MAX_TEXT_LINES = 8
"""Maximum number of visible lines of a multi-line field; a longer text scrolls."""


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A field of a form, with one line or several. ``hint`` is shown while the field is empty. An ``optional`` field
    can stay empty.

    ``choices`` are suggested while the person types. The text of a ``secret`` field is hidden. ``check`` raises a
    `ValueError` whose message describes the error.
    """

    name: str
    label: str
    value: str = ""
    hint: str = ""
    optional: bool = False
    choices: Sequence[str] = ()
    text: bool = False
    secret: bool = False
    check: Callable[[str], object] | None = None

    def problem(self, value: str) -> str:
        """Return what is wrong with an answer, or an empty text if it is valid."""
        if not value:
            return "" if self.optional else f"{self.label}: this field is required."
        try:
            if self.check is not None:
                self.check(value)
        except ValueError as error:
            return f"{self.label}: {error}"
        return ""


class Form(ModalScreen[Answers | None]):
    """A form with several fields. Enter moves to the next field and, in the last field, submits the form; ctrl+s
    submits it anywhere.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("ctrl+s", "answer", "Continue", priority=True),
    ]

    def __init__(self, title: str, *fields: Field, about: str = "") -> None:
        super().__init__()
        self._title = title
        self._about = about
        self._lines = {field: self._line(field) for field in fields}

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(Content(self._title), classes="title")
            with VerticalScroll(can_focus=False):
                if self._about:
                    yield Static(Content(self._about), classes="about")
                for field, line in self._lines.items():
                    yield Label(Content(field.label))
                    yield line
            yield Static(id="problem", markup=False)
            keys = "ctrl+s" if any(field.text for field in self._lines) else "Enter"
            yield Static(f"{keys}: continue · Esc: cancel", classes="keys")

    def _line(self, field: Field) -> Input | TextArea:
        # A property in a user's schema can have any name, even one that is not a valid id.
        name = f"field-{field.name}" if re.fullmatch(r"[\w-]+", field.name, re.ASCII) else None
        if field.text:
            area = TextArea(field.value, id=name, compact=True, tab_behavior="focus")
            area.styles.height = min(MAX_TEXT_LINES, max(3, field.value.count("\n") + 1))
            return area
        hint = field.hint or " | ".join(field.choices[:6])
        suggester = SuggestFromList(field.choices, case_sensitive=False) if field.choices else None
        return Input(
            field.value,
            placeholder=hint,
            id=name,
            compact=True,
            suggester=suggester,
            password=field.secret,
        )

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        if event.input is list(self._lines.values())[-1]:
            self.action_answer()
        else:
            self.focus_next("Input, TextArea")

    def action_answer(self) -> None:
        answers: Answers = {}
        for field, line in self._lines.items():
            answers[field.name] = (line.text if isinstance(line, TextArea) else line.value).strip()
            if problem := field.problem(answers[field.name]):
                self.query_one("#problem", Static).update(problem)
                line.focus()
                return
        self.dismiss(answers)


class Choose(ModalScreen[int | None]):
    """A choice from a long list, which typing filters: choices that begin with the text come first. The result is the
    index of the chosen line, from 0.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "Cancel"),
        Binding("up", "move('cursor_up')", show=False),
        Binding("down", "move('cursor_down')", show=False),
        Binding("pageup", "move('page_up')", show=False),
        Binding("pagedown", "move('page_down')", show=False),
    ]

    def __init__(self, title: str, choices: Sequence[str], chosen_index: int | None = None) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._shown_places = list(range(len(choices)))
        self._chosen_index = chosen_index

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(Content(self._title), classes="title")
            yield Input(placeholder="Type to search", id="find", compact=True)
            lines = OptionList(*(Option(Content(choice)) for choice in self._choices), compact=True)
            lines.can_focus = False
            yield lines
            yield Static("Enter: choose · Esc: cancel", classes="keys")

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = self._chosen_index
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _filter_choices(self, event: Input.Changed) -> None:
        text = event.value.casefold()
        words = text.split()
        places = [
            place
            for place, choice in enumerate(self._choices)
            if all(word in choice.casefold() for word in words)
        ]
        # "facts" is also a part of "Artifacts": a choice that begins with the text is meant more often.
        self._shown_places = sorted(
            places, key=lambda place: not self._choices[place].casefold().startswith(text)
        )
        lines = self.query_one(OptionList)
        lines.clear_options()
        lines.add_options([Option(Content(self._choices[place])) for place in self._shown_places])
        lines.highlighted = 0 if self._shown_places else None

    def action_move(self, how: str) -> None:
        getattr(self.query_one(OptionList), f"action_{how}")()

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def _pick(self) -> None:
        place = self.query_one(OptionList).highlighted
        if place is not None:
            self.dismiss(self._shown_places[place])


class Confirm(ModalScreen[bool]):
    """Asks for confirmation before data is destroyed. The safe answer has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(False)", "No"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, verb: str, *, wide: bool = False) -> None:
        super().__init__()
        self._question = question
        self._verb = verb
        self._classes_of_dialog = "dialog wide" if wide else "dialog"

    def compose(self) -> ComposeResult:
        with Vertical(classes=self._classes_of_dialog):
            with VerticalScroll():
                yield Static(Content(self._question), classes="about")
            with Horizontal(classes="buttons"):
                yield Button("No", id="no", compact=True)
                yield Button(self._verb, id="yes", variant="error", compact=True)
            yield Static("y: yes · n or Esc: no", classes="keys")

    def on_mount(self) -> None:
        self.query_one("#no").focus()

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")


class Reader(ModalScreen[None]):
    """A text to read: a passage, or an engine's log, which opens with the last lines."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("y", "copy", "Copy"),
    ]

    def __init__(self, title: str, text: str, *, from_end: bool = False, copied_text: str = "") -> None:
        super().__init__()
        self._copied = copied_text or text
        self._title = title
        self._text = text
        self._from_end = from_end

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Label(Content(self._title), classes="title")
            with VerticalScroll():
                yield Static(Content(self._text), id="text")
            yield Static("Esc: close · y: copy", classes="keys")

    def on_mount(self) -> None:
        scroll = self.query_one(VerticalScroll)
        scroll.focus()
        if self._from_end:
            scroll.scroll_end(animate=False)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._copied)
        self.notify("Copied.")


class Help(ModalScreen[None]):
    """The keys of the screen below this dialog."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Close")]

    def __init__(self, keys: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._keys = keys

    def compose(self) -> ComposeResult:
        width = max(len(key) for key, _ in self._keys)
        lines = [
            Content.assemble((f"{key:>{width}}", "bold $accent"), "  ", messages)
            for key, messages in self._keys
        ]
        with Vertical(classes="dialog"):
            yield Label("Keys", classes="title")
            with VerticalScroll():
                yield Static(Content("\n").join(lines))
            yield Static("Tab: next part · Enter: open the chosen row", classes="keys")
