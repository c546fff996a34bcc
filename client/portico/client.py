"""`Client` and `AsyncClient`: access to everything that a daemon offers, for blocking and for asyncio code."""

from __future__ import annotations

from portico._async.client import AsyncClient
from portico._sync.client import Client

__all__ = ["AsyncClient", "Client"]
