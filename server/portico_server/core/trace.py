"""The position of the current work in a distributed trace, received and sent as W3C Trace Context.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final, NamedTuple

from portico_server.core.scoped_value import ScopedValue

_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

MAX_STATE_CHARS: Final = 512
"""Maximum length of a ``tracestate``; a longer one is dropped, as the specification allows."""


class Trace(NamedTuple):
    """A span; its ids are in hexadecimal. With ``recorded``, the span belongs to Portico and is exported when it
    ends.
    """

    trace_id: str
    span_id: str
    sampled: bool = True
    state: str = ""
    recorded: bool = False

    def headers(self) -> dict[str, str]:
        """Return the headers that make spans of another program children of this span."""
        headers = {"traceparent": f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"}
        return {**headers, "tracestate": self.state} if self.state else headers


CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)
"""The current span of this task, which is Portico's or a client's."""

STEP: ContextVar[str] = ContextVar("step", default="")
"""The path of the flow's step that this task executes; empty outside flows."""


def of_headers(headers: Iterable[tuple[bytes, bytes]]) -> Trace | None:
    """Return the client's span from request headers; ``None`` without a valid ``traceparent``."""
    parent, state = "", ""
    for name, value in headers:
        if name == b"traceparent":
            parent = value.decode("latin-1").strip()
        elif name == b"tracestate":
            state = value.decode("latin-1").strip()
    if not parent:
        return None
    match = _PARENT.fullmatch(parent) if len(parent) <= MAX_STATE_CHARS else None
    if match is None:
        return None
    version, trace_id, span_id, flags = match.groups()
    if version == "ff" or not int(trace_id, 16) or not int(span_id, 16):
        return None
    trace_state = state if len(state) <= MAX_STATE_CHARS and state.isprintable() and state.isascii() else ""
    return Trace(trace_id, span_id, bool(int(flags, 16) & 1), trace_state)


def of_mapping(headers: Mapping[str, str] | None) -> Trace | None:
    """Return the span from headers that `Trace.headers` returned."""
    return of_headers((name.encode(), value.encode()) for name, value in (headers or {}).items())


def of_run(run_id: str, path: str = "", within: Trace | None = None) -> Trace:
    """Return the span of a run, or of the run's step at ``path``, in the trace of ``within`` or in a new trace.

    The ids are derived from the run and the path, so a step knows its parent's id before the parent has ended.
    """
    span = hashlib.sha256(f"{run_id}\n{path}".encode()).hexdigest()[:16]
    if within is None:
        return Trace(hashlib.sha256(run_id.encode()).hexdigest()[:32], span, recorded=True)
    return within._replace(span_id=span, recorded=True)


def at(trace: Trace | None) -> AbstractContextManager[object]:
    """Make a span current within the block."""
    return ScopedValue(CURRENT, trace)


def at_step(run_id: str, path: str) -> AbstractContextManager[object]:
    """Make a step current within the block, and its span too if spans are recorded."""
    current = CURRENT.get()
    if current is None or not current.recorded:
        return ScopedValue(STEP, path)
    return _at_step_span(path, of_run(run_id, path, current))


@contextmanager
def _at_step_span(path: str, span: Trace) -> Iterator[None]:
    with ScopedValue(STEP, path), at(span):
        yield
