"""The depth of agents that call each other, recorded in the trace state, which other programs forward."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Final

from portico_server.core.trace import CURRENT, MAX_STATE_CHARS, Trace
from portico_server.core.words import whole_number

_HOPS: Final = "portico="


def hops() -> int:
    """Return the number of agents that the current work is nested in, as recorded in its trace state."""
    current = CURRENT.get()
    for member in (current.state if current is not None else "").split(","):
        if member.strip().startswith(_HOPS):
            count = member.strip().removeprefix(_HOPS)
            return whole_number(count, 3) or 0
    return 0


def next_hop() -> Trace:
    """Return the trace for a call that an agent makes: the current trace or a new trace, one level deeper."""
    current = CURRENT.get() or Trace(secrets.token_hex(16), secrets.token_hex(8))
    other_members = [
        entry for entry in current.state.split(",") if entry and not entry.strip().startswith(_HOPS)
    ]
    state = f"{_HOPS}{hops() + 1}"
    for member in other_members:
        if len(state) + 1 + len(member) > MAX_STATE_CHARS:
            break
        state += f",{member}"
    return current._replace(state=state)


def with_trace_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers of a call to another program, with the current trace added."""
    current = CURRENT.get()
    return headers if current is None else {**headers, **current.headers()}
