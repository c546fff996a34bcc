"""Questions over a screen: a form, a choice, a yes or no, a text to read, the keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

Answers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Field:
    """One line of a form. ``hint`` is shown while it is empty; an optional one may stay so."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    optional: bool = False


class Form(ModalScreen[Answers | None]):
    """A few lines to fill in. Enter goes to the next line and, on the last, is the answer."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, title: str, *fields: Field, about: str = "") -> None:
        super().__init__()
        self._title = title
        self._about = about
        self._fields = fields

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(Content(self._title), classes="title")
            if self._about:
                yield Static(Content(self._about), classes="about")
            for field in self._fields:
                yield Label(Content(field.label))
                yield Input(field.value, placeholder=field.hint, id=f"field-{field.name}", compact=True)
            yield Static("Enter: continue · Esc: cancel", classes="keys")

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        answers = {f.name: self.query_one(f"#field-{f.name}", Input).value.strip() for f in self._fields}
        missing = [f.name for f in self._fields if not answers[f.name] and not f.optional]
        last = event.input.id == f"field-{self._fields[-1].name}"
        if last and not missing:
            self.dismiss(answers)
        elif last:
            self.query_one(f"#field-{missing[0]}").focus()
        else:
            self.focus_next(Input)


class Choose(ModalScreen[int | None]):
    """One of a few lines; the answer is its place, from 0."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "Cancel")]

    def __init__(self, title: str, choices: Sequence[str], chosen: int | None = None) -> None:
        super().__init__()
        self._title = title
        self._choices = choices
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Label(Content(self._title), classes="title")
            yield OptionList(*(Option(Content(choice)) for choice in self._choices), compact=True)
            yield Static("Enter: this one · Esc: cancel", classes="keys")

    def on_mount(self) -> None:
        self.query_one(OptionList).highlighted = self._chosen

    @on(OptionList.OptionSelected)
    def _picked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)


class Confirm(ModalScreen[bool]):
    """Asks before something is destroyed. The safe answer has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "Yes"),
        Binding("n,escape", "dismiss(False)", "No"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, verb: str) -> None:
        super().__init__()
        self._question = question
        self._verb = verb

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
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
    """A text to read: a passage, or what an engine wrote (from its end)."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("y", "copy", "Copy"),
    ]

    def __init__(self, title: str, text: str, *, from_end: bool = False) -> None:
        super().__init__()
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
        self.app.copy_to_clipboard(self._text)
        self.notify("Copied.")


class Help(ModalScreen[None]):
    """The keys of the screen below."""

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
            yield Static("Tab: the next part · Enter: open what is chosen", classes="keys")
