"""Portico's SDK: `Client` and `AsyncClient` for a Portico daemon, the wire types and the errors.

Names are loaded on first use, so that the command line starts before the HTTP library is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico._answer import Answer, AsyncAnswer
    from portico.client import AsyncClient, Client
    from portico.errors import (
        Cancelled,
        Conflict,
        ConnectionFailed,
        ConnectionLost,
        DeadlineExceeded,
        EngineFailed,
        Forbidden,
        InvalidRequest,
        NotFound,
        NotPortico,
        PorticoError,
        ServerFailed,
        TooLarge,
        TooMany,
        Unauthenticated,
        Unavailable,
    )
    from portico.functions import Function, idempotency_key
    from portico.schemas.replies import Reply
    from portico.schemas.search import Found
    from portico.wire import Passage, Place

__version__ = "0.1.0"

_HOME = {
    "Answer": "_answer",
    "AsyncAnswer": "_answer",
    "AsyncClient": "_async.client",
    "Cancelled": "errors",
    "Client": "_sync.client",
    "Conflict": "errors",
    "ConnectionFailed": "errors",
    "ConnectionLost": "errors",
    "DeadlineExceeded": "errors",
    "EngineFailed": "errors",
    "Forbidden": "errors",
    "Found": "schemas.search",
    "Function": "functions",
    "InvalidRequest": "errors",
    "NotFound": "errors",
    "NotPortico": "errors",
    "Passage": "wire",
    "Place": "wire",
    "PorticoError": "errors",
    "Reply": "schemas.replies",
    "ServerFailed": "errors",
    "TooLarge": "errors",
    "TooMany": "errors",
    "Unauthenticated": "errors",
    "Unavailable": "errors",
    "idempotency_key": "functions",
}

__all__ = [
    "Answer",
    "AsyncAnswer",
    "AsyncClient",
    "Cancelled",
    "Client",
    "Conflict",
    "ConnectionFailed",
    "ConnectionLost",
    "DeadlineExceeded",
    "EngineFailed",
    "Forbidden",
    "Found",
    "Function",
    "InvalidRequest",
    "NotFound",
    "NotPortico",
    "Passage",
    "Place",
    "PorticoError",
    "Reply",
    "ServerFailed",
    "TooLarge",
    "TooMany",
    "Unauthenticated",
    "Unavailable",
    "__version__",
    "idempotency_key",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'portico' has no attribute '{name}'")
    value = getattr(import_module(f"portico.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
