"""One step of applying a configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from portico.schemas.configuration import Change
from portico_server.core.dataclass import dataclass

Do: TypeAlias = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class ConfigurationStep:
    """A change of one entry, and the function that makes it; ``None`` if nothing changes."""

    change: Change
    do: Do | None = None
