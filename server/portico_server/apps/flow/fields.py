"""Fields of a flow's specification: those of any specification, and expressions."""

from __future__ import annotations

from portico_server.apps import fields
from portico_server.apps.flow import notation
from portico_server.apps.flow.expression import Expression


class Fields(fields.Fields):
    """An object whose fields may be expressions."""

    def expression(self, key: str, default: Expression | None = None) -> Expression | None:
        """A field that is an expression. A field that is there and null is the literal null."""
        self._known.append(key)
        if key not in self._left:
            return default
        return notation.parse(self._left.pop(key), self.path(key))

    def prompt(self, key: str) -> Expression | None:
        """A field that is text for a model: a bare text with ``{name}`` in it is a template.

        One without any is as it stands, whatever braces it has: prompts show JSON.
        """
        self._known.append(key)
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if isinstance(value, str) and notation.is_template(value):
            return notation.template(value, None, self.path(key))
        return notation.parse(value, self.path(key))

    def arguments(self) -> tuple[tuple[Expression, ...] | None, dict[str, Expression]]:
        """``args`` and ``kwargs``; ``args`` is ``None`` if neither is given."""
        args, kwargs = self.items("args"), self.mapping("kwargs")
        if args is None and kwargs is None:
            return None, {}
        at = self.path("args")
        return (
            tuple(notation.parse(item, f"{at}[{number}]") for number, item in enumerate(args or ())),
            {
                name: notation.parse(item, f"{self.path('kwargs')}.{name}")
                for name, item in (kwargs or {}).items()
            },
        )
