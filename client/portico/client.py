"""`Client` and `AsyncClient`: everything a daemon offers, blocking or for asyncio."""

from __future__ import annotations

from portico._async.client import AsyncClient
from portico._sync.client import Client

__all__ = ["AsyncClient", "Client"]
