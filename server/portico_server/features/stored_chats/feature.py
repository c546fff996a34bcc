"""Declares the feature `stored_chats`: chat completions that a request stored."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="stored_chats",
    shared_routers=("portico_server.features.stored_chats.api.stored_chats:router",),
)
