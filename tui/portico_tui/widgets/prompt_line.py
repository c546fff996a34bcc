"""The input line for questions, with a history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input


class PromptLine(Input):
    """An input line with a history: the up and down keys move through earlier questions."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "recall(-1)", "Earlier question", show=False),
        Binding("down", "recall(1)", "Later question", show=False),
    ]

    def __init__(self, *, id: str) -> None:
        super().__init__(placeholder="Ask something. Press Esc to leave this line.", id=id)
        self._questions: list[str] = []
        self._position = 0

    def recall(self, questions: Sequence[str]) -> None:
        """Add the questions of an earlier conversation to the history, before the questions asked since the app was
        started.
        """
        self._questions += questions
        self._position = len(self._questions)

    def take(self) -> str:
        """Return the text in the line, add it to the history, and clear the line."""
        text = self.value.strip()
        self.clear()
        if text and text not in self._questions[-1:]:
            self._questions.append(text)
        self._position = len(self._questions)
        return text

    def action_recall(self, step: int) -> None:
        self._position = max(0, min(len(self._questions), self._position + step))
        self.value = self._questions[self._position] if self._position < len(self._questions) else ""
        self.cursor_position = len(self.value)
