"""Tool calls as OpenAI-compatible servers send them, read into the form that OpenAI documents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.ids import new_id
from portico_server.models.engines.openai_client.upstream_fields import list_of, number_of

_BESIDE = ("name", "arguments", "input", "parameters")
"""Fields of a function that some servers send beside the call's ``id`` instead of within ``function``."""


def read_calls(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the calls of a complete message.

    Each call has an id of its own, a name, and arguments as a JSON text. Calls without a name are left out.
    """
    calls: list[dict[str, Any]] = []
    ids: set[str] = set()
    for part in _parts(message):
        if part.get("type") == "custom":
            calls.append(dict(part))
            continue
        name, arguments = _function_of(part)
        if not name:
            continue
        call_id = _id_of(part)
        if not call_id or call_id in ids:
            call_id = new_id("call_")
        ids.add(call_id)
        calls.append(_call(part, {"id": call_id, "type": "function"}, name, _text(arguments) or "{}"))
    return calls


class StreamedCalls:
    """The calls of one choice while they arrive in pieces.

    The pieces that it returns are what OpenAI sends. The first piece of a call has an index that counts from 0, an id
    and a name, and the other pieces have the index and more of the arguments.
    """

    def __init__(self) -> None:
        self._calls: list[_StreamedCall] = []
        self._by_index: dict[int, _StreamedCall] = {}
        self._count = 0
        """Number of calls whose first piece has been returned."""

    def __bool__(self) -> bool:
        return self._count > 0

    @property
    def has_any(self) -> bool:
        """Return whether any piece of a call has arrived, even one without a name."""
        return self._count > 0 or bool(self._calls)

    def read(self, delta: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the pieces of calls in a delta. A call without a name is kept until its name arrives."""
        return [piece for part in _parts(delta) if (piece := self._piece(part)) is not None]

    def close(self) -> list[dict[str, Any]]:
        """Return the last pieces of the calls without arguments, because their arguments must be a JSON object."""
        pieces = []
        for call in self._calls:
            if call.index is not None and not call.arguments:
                call.arguments = "{}"
                pieces.append({"index": call.index, "function": {"arguments": "{}"}})
        return pieces

    def _piece(self, part: Mapping[str, Any]) -> dict[str, Any] | None:
        if part.get("type") == "custom" or "custom" in part:
            self._count += 1
            return dict(part)
        name, arguments = _function_of(part)
        place = number_of(part.get("index"))
        call = self._find(place, _id_of(part), name, arguments)
        if place is not None:
            self._by_index[place] = call
        text = call.new_text(arguments)
        if call.index is not None:
            return _call(part, {"index": call.index}, call.new_name(name), text)
        call.name += name
        if not call.name:
            return None
        call.index, self._count = self._count, self._count + 1
        is_taken = any(known_call.id == call.id for known_call in self._calls if known_call is not call)
        if is_taken or not call.id:
            call.id = new_id("call_")
        return _call(
            part, {"index": call.index, "id": call.id, "type": "function"}, call.name, call.arguments
        )

    def _find(self, place: int | None, call_id: str, name: str, arguments: Any) -> _StreamedCall:
        """Return the call that a piece belongs to, which may be a new one.

        Servers leave out the index, give all calls the same index or id, or change the index or the id within a call.
        """
        by_id = next((call for call in self._calls if call_id and call.id == call_id), None)
        call = by_id if place is None else self._by_index.get(place, by_id)
        if call is None and self._calls and not name and (place is None or not call_id):
            call = self._calls[-1]
        if call is None and place is None and not call_id and self._calls:
            call = self._calls[-1]  # the name is repeated in each piece
        if call is not None and call.is_followed_by(call_id, name, arguments):
            call = by_id if by_id is not call else None
        if call is None:
            call = _StreamedCall(call_id)
            self._calls.append(call)
        return call


class _StreamedCall:
    """One call: its id, what has arrived of its name and arguments, and its index once its first piece is returned."""

    __slots__ = ("arguments", "id", "index", "name")

    def __init__(self, call_id: str) -> None:
        self.id = call_id
        self.name = ""
        self.arguments = ""
        self.index: int | None = None

    def is_followed_by(self, call_id: str, name: str, arguments: Any) -> bool:
        """Return whether a piece with the same index, or without an index, begins another call."""
        if not name or not self.name or (call_id and call_id == self.id and not _is_json(self.arguments)):
            return False
        if call_id and call_id != self.id:
            return not self.arguments or _is_json(self.arguments)
        text = _text(arguments)
        return _is_json(self.arguments) and (name != self.name or text not in ("", self.arguments))

    def new_name(self, name: str) -> str:
        """Return the part of ``name`` that has not arrived yet; servers repeat the name in later pieces."""
        if not name or name == self.name:
            return ""
        addition = name.removeprefix(self.name)
        self.name += addition
        return addition

    def new_text(self, arguments: Any) -> str:
        """Return the part of ``arguments`` that has not arrived yet.

        Servers repeat complete arguments, or send an empty object before them.
        """
        text = _text(arguments)
        if not self.arguments and text.strip() == "{}":
            return ""
        is_repeated = text == self.arguments or not isinstance(arguments, str)
        if self.arguments and text and is_repeated and _is_json(self.arguments):
            return ""
        self.arguments += text
        return text


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _parts(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    parts = [part for part in list_of(message.get("tool_calls")) if isinstance(part, dict)]
    legacy_call = message.get("function_call")
    if not parts and isinstance(legacy_call, dict):
        return [{"index": 0, "function": legacy_call}]
    return parts


def _function_of(part: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the name and the arguments of a call or of a piece of one."""
    function = part.get("function")
    source = function if isinstance(function, dict) else part
    name = source.get("name")
    arguments = next((source[field] for field in _BESIDE[1:] if source.get(field) is not None), None)
    return name if isinstance(name, str) else "", arguments


def _id_of(part: Mapping[str, Any]) -> str:
    value = part.get("id") or part.get("call_id")
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _text(arguments: Any) -> str:
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else orjson.dumps(arguments).decode()


def _call(part: Mapping[str, Any], head: Mapping[str, Any], name: str, arguments: str) -> dict[str, Any]:
    """Return a call or a piece of one: ``part`` with the fields of ``head``, the name if it is not empty, and the
    arguments.
    """
    function = part.get("function")
    fields = dict(part)
    functions_fields: dict[str, Any] = {}
    if isinstance(function, dict):
        functions_fields = {key: value for key, value in function.items() if key != "name" or value is None}
    else:
        for key in _BESIDE:
            fields.pop(key, None)
    if fields.get("id") is not None:
        del fields["id"]
    if not isinstance(fields.get("type", ""), str) or fields.get("type") in ("tool_use", "tool_call"):
        fields["type"] = "function"
    name_field = {"name": name} if name else {}
    return {**fields, **head, "function": {**functions_fields, **name_field, "arguments": arguments}}
