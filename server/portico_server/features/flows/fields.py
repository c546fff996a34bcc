"""Fields of a flow's specification: fields as in all specifications, and fields that are expressions."""

from __future__ import annotations

from portico_server.core.json_values import JsonObject
from portico_server.features.flows import expression
from portico_server.features.flows.expression import Expression
from portico_server.features.flows.model_options import known_options


class FlowFields(JsonObject):
    """An object whose fields may be expressions."""

    def expression(self, key: str, default: Expression | None = None) -> Expression | None:
        """Return a field that is an expression. A field set to null is the literal null."""
        self._known.append(key)
        if key not in self._left:
            return default
        return expression.parse(self._left.pop(key), self.path(key))

    def prompt(self, key: str) -> Expression | None:
        """Return a field with text for a model. Plain text that contains ``{name}`` is a template.

        Text without a name in braces stays unchanged, because prompts may contain JSON.
        """
        self._known.append(key)
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if isinstance(value, str) and expression.is_template(value):
            return expression.template(value, None, self.path(key))
        return expression.parse(value, self.path(key))

    def options(self, key: str) -> Expression | None:
        """Return the field with the options of a model. An object literal is checked immediately, other expressions at
        run time.
        """
        options = self._left.get(key)
        if isinstance(options, dict) and not any(name.startswith("$") for name in options):
            known_options(options, self.path(key))
        return self.expression(key)

    def arguments(self) -> tuple[tuple[Expression, ...] | None, dict[str, Expression]]:
        """Return ``args`` and ``kwargs``. ``args`` is ``None`` if the specification has neither of the two."""
        args, kwargs = self.items("args"), self.mapping("kwargs")
        if args is None and kwargs is None:
            return None, {}
        at = self.path("args")
        return (
            tuple(expression.parse(item, f"{at}[{number}]") for number, item in enumerate(args or ())),
            {
                name: expression.parse(item, f"{self.path('kwargs')}.{name}")
                for name, item in (kwargs or {}).items()
            },
        )
