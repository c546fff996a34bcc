"""Ids of the items of a response. They contain the digits of the response's id, so that an item's id identifies its
response.
"""

from __future__ import annotations

from typing import Final, Literal

from portico_server.core.ids import new_id

RESPONSE: Final = "resp_"
STEM_CHARS = 32
"""Number of hexadecimal digits that the ids of a response and its items share."""

Prefix = Literal[
    "msg_",
    "rs_",
    "fc_",
    "fco_",
    "fs_",
    "ci_",
    "ig_",
    "mcp_",
    "mcpl_",
    "mcpr_",
    "mcpa_",
    "cmp_",
    "tsc_",
    "tso_",
    "sh_",
    "sho_",
    "lsh_",
    "lsho_",
    "apc_",
    "apco_",
]


class ItemIds:
    """Creates unique ids for the items of one response; ``count`` is the number of ids created before."""

    __slots__ = ("_stem", "count")

    def __init__(self, response_id: str = "", count: int = 0) -> None:
        self._stem = (response_id or new_id(RESPONSE)).removeprefix(RESPONSE)
        self.count = count

    def __call__(self, prefix: Prefix) -> str:
        self.count += 1
        return f"{prefix}{self._stem}{self.count:04x}"


def response_of(item_id: str) -> str | None:
    """Return the id of the response that an item was made for, or ``None`` if Portico cannot have created the
    item's id.
    """
    stem = item_id.rpartition("_")[2][:STEM_CHARS]
    return f"{RESPONSE}{stem}" if len(stem) == STEM_CHARS else None
