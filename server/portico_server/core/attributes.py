"""Checks of attributes and of metadata, in the limits of OpenAI's API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest
from portico_server.core.request import Attributes

MAX_ATTRIBUTES = 16


def check_attributes(value: Any, param: str = "attributes") -> Attributes:
    """Validate attributes: at most 16 pairs of a name (≤64 characters) and a string (≤512 characters), number or
    boolean.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"'{param}' must be an object.", param=param)
    if len(value) > MAX_ATTRIBUTES:
        raise InvalidRequest(
            f"'{param}' has {len(value)} entries; at most {MAX_ATTRIBUTES} are allowed.", param=param
        )
    for key, item in value.items():
        path = f"{param}.{str(key)[:64]}"
        if not isinstance(key, str) or not 1 <= len(key) <= 64:
            raise InvalidRequest(f"A name in '{param}' must have 1 to 64 characters.", param=path)
        if not isinstance(item, str | int | float) or item != item or item in (float("inf"), float("-inf")):
            raise InvalidRequest(f"'{path}' must be a string, a number or a boolean.", param=path)
        if isinstance(item, str) and len(item) > 512:
            raise InvalidRequest(f"'{path}' has {len(item)} characters; at most 512 are allowed.", param=path)
    return dict(value)


def check_metadata(value: Any) -> dict[str, str]:
    """Validate metadata: at most 16 pairs of a name (≤64 characters) and a string (≤512 characters)."""
    checked_metadata = check_attributes(value, "metadata")
    for key, item in checked_metadata.items():
        if not isinstance(item, str):
            raise InvalidRequest(f"'metadata.{key}' must be a string.", param=f"metadata.{key}")
    return {key: str(item) for key, item in checked_metadata.items()}
