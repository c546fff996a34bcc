"""`Client` and `AsyncClient`: everything a daemon offers, for blocking code or asyncio."""

from __future__ import annotations

from portico._async.client import AsyncClient
from portico._sync.client import Client

__all__ = ["AsyncClient", "Client"]
