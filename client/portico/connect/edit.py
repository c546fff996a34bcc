"""Sets and removes values in the text of a configuration file, and verifies that nothing else changes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final, Literal, TypeAlias

from portico.connect import jsonc, toml, yaml
from portico.connect.setting import InvalidFile, Place, Settings, Unchangeable, value_at, with_value
from portico.errors import InvalidRequest

Format: TypeAlias = Literal["JSON", "TOML", "YAML"]

_EDITORS: Final[Mapping[Format, ModuleType]] = {"JSON": jsonc, "TOML": toml, "YAML": yaml}


def parse(data: bytes, file_format: Format, name: str) -> Any:
    """Return the value of a file, ``None`` if it is empty. Raises `InvalidRequest` that names the line."""
    try:
        return _EDITORS[file_format].parse(_text(data, name).removeprefix("\ufeff").replace("\r\n", "\n"))
    except InvalidFile as error:
        raise InvalidRequest(
            f"{name} is not valid {file_format}, so it stays unchanged: {error}. Correct the file, and try again.",
            param="file",
            code="invalid_file",
        ) from error


def put_all(data: bytes, file_format: Format, settings: Settings, name: str) -> bytes:
    """Return the bytes of a file with these settings. Raises `InvalidRequest` if other values would change."""
    return _edited(data, file_format, name, settings)


def drop_all(data: bytes, file_format: Format, settings: Settings, former: Any, name: str) -> bytes:
    """Return the bytes of a file without these settings. A place that has a value in ``former`` gets it back.

    Objects and lists that are empty then are removed too, unless they are in ``former``.
    """
    former_values = {place: value_at(former, place) for place in settings}
    data = _edited(data, file_format, name, former_values)
    for place in settings:
        for length in range(len(place) - 1, 0, -1):
            outer = place[:length]
            value, former_value = value_at(parse(data, file_format, name), outer), value_at(former, outer)
            if not value and (former_value is None or value != former_value):
                data = _edited(data, file_format, name, {outer: former_value})
    return data


def _edited(data: bytes, file_format: Format, name: str, settings: Settings) -> bytes:
    """Return the file with these values; ``None`` removes a value."""
    target: Any = parse(data, file_format, name)
    editor, text = _EDITORS[file_format], _text(data, name)
    bom = "\ufeff" if text.startswith("\ufeff") else ""
    newline = "\r\n" if "\r\n" in text else "\n"
    text = text.removeprefix(bom).replace("\r\n", "\n")
    place: Place = ()
    try:
        for place, value in settings.items():
            if value is not None:
                target = with_value(target, place, value)
                text = editor.put(text, place, value)
                _require(editor.parse(text) == target)
            else:
                text = editor.drop(text, place)
                target = editor.parse(text)
                _require(value_at(target, place) is None)
    except (Unchangeable, InvalidFile) as error:
        place_text = ".".join(step if isinstance(step, str) else step.name for step in place)
        raise InvalidRequest(
            f"{name} stays unchanged, because '{place_text}' cannot be changed alone: {error}. "
            "Change it by hand.",
            param="file",
            code="unchangeable_file",
        ) from error
    return (bom + text.replace("\n", newline)).encode()


def _require(is_unchanged: bool) -> None:
    if not is_unchanged:
        raise Unchangeable("other values would change")


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is not UTF-8 text, so it stays unchanged.", param="file") from error
