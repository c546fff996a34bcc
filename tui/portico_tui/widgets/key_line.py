"""The last line of a screen, which shows the available keys."""

from __future__ import annotations

from textual.widgets import Footer


class KeyLine(Footer):
    """Textual's footer, but rebuilt only when a key has appeared, disappeared or been dimmed.

    A screen requests a rebuild six times when it opens. Rebuilding every time took most of the time needed to change
    screens.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False)
        self._shown_bindings: list[object] = []

    async def recompose(self) -> None:
        """Rebuild the footer if the keys to show have changed."""
        if not self.is_attached:  # the screen was closed in the meantime
            return
        visible_bindings: list[object] = [
            (binding, is_enabled, tooltip)
            for _, binding, is_enabled, tooltip in self.screen.active_bindings.values()
            if binding.show
        ]
        if visible_bindings != self._shown_bindings:
            self._shown_bindings = visible_bindings
            await super().recompose()
