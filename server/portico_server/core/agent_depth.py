"""How many agents have called each other: what a daemon writes into the state of a trace, which others pass on."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from portico_server.core.trace import CURRENT, MAX_STATE_CHARS, Trace
from portico_server.core.words import whole_number

_HOPS: Final = "portico="


def hops() -> int:
    """How many agents are around the work of this moment, by the state of its trace."""
    current = CURRENT.get()
    for member in (current.state if current is not None else "").split(","):
        if member.strip().startswith(_HOPS):
            count = member.strip().removeprefix(_HOPS)
            return whole_number(count, 3) or 0
    return 0


def next_hop() -> Trace:
    """Where a call of an agent stands: in the trace of this moment, or in a new one, one agent further."""
    current = CURRENT.get() or Trace(secrets.token_hex(16), secrets.token_hex(8))
    other_members = [one for one in current.state.split(",") if one and not one.strip().startswith(_HOPS)]
    state = f"{_HOPS}{hops() + 1}"
    for member in other_members:
        if len(state) + 1 + len(member) > MAX_STATE_CHARS:
            break
        state += f",{member}"
    return current._replace(state=state)


def with_trace_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers of a call to another program, with where it stands."""
    current = CURRENT.get()
    return headers if current is None else {**headers, **current.headers()}
