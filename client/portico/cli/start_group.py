"""Groups of commands whose first command may be omitted."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup


class StartGroup(TyperGroup):
    """A group in which ``portico tune FILE …`` is short for ``portico tune start FILE …``. An argument with the name of
    a subcommand needs ``start``, or a path such as ``./list``.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--install-completion"):
            args = ["start", *args]
        return super().parse_args(ctx, args)
