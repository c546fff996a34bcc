"""The nouns of Portico, one file each, as frozen dataclasses: what the daemon answers and the SDK returns.

Only the standard library and `portico.wire` may be imported here: the daemon imports these classes too.
Moments are seconds since 1970.
"""

from __future__ import annotations


def json_at(*places: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    """Metadata of a field: where its JSON stands, by names joined with dots; the first place that has any counts.

    The empty place is the whole object.
    """
    return {"json_at": tuple(tuple(place.split(".")) if place else () for place in places)}
