"""The resource types of Portico, one file each, as frozen dataclasses: what the daemon returns and the SDK provides.

This package may import only the standard library and `portico.wire`, because the daemon imports these classes too.
Times are in seconds since 1970.
"""

from __future__ import annotations

from typing import Any


def json_at(*places: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Return field metadata that says where the field's value is in JSON. ``places`` are dotted names, in order of
    preference; the first place with a value is used.

    An empty place means the whole object.
    """
    return {"json_at": tuple(tuple(place.split(".")) if place else () for place in places)}


def added_later(value: Any) -> dict[str, Any]:
    """Return metadata of a field that older daemons do not send. ``value`` is what such a daemon does, so clients read
    it where the field is missing.
    """
    return {"missing": value}
