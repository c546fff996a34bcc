"""The usage limits of a key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Self

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

MAX_LIMIT = 10**12


@dataclass(frozen=True, slots=True)
class UsageLimits:
    """Usage limits; ``None`` means no limit. ``concurrency`` is the maximum number of simultaneous calls; a day begins
    at midnight UTC.
    """

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None

    @classmethod
    def parse(cls, given_fields: Mapping[str, object] | None, param: str = "limits") -> Self:
        """Parse limits from JSON or YAML. Raises `InvalidRequest` that names the limit."""
        names = [item.name for item in fields(cls)]
        limits: dict[str, int | None] = {}
        for name, value in (given_fields or {}).items():
            if name not in names:
                raise InvalidRequest(
                    f"'{name}' is not a limit.{nearest(str(name), names)} Limits are {', '.join(names)}.",
                    param=f"{param}.{name}",
                )
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
                raise InvalidRequest(
                    f"The limit '{name}' must be a whole number from 1 to {MAX_LIMIT:,}, not {str(value)[:100]!r}. "
                    "Leave it out for no limit.",
                    param=f"{param}.{name}",
                )
            limits[name] = value
        return cls(**limits)

    def to_json(self) -> dict[str, int]:
        """Return the limits that are set."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class KeyLimits(UsageLimits):
    """The limits of a key. ``storage_mb`` is the maximum disk space for its data, in MiB."""

    storage_mb: int | None = None

    @property
    def usage(self) -> UsageLimits:
        """The limits that apply to the key's calls."""
        return UsageLimits(
            self.concurrency, self.requests_per_minute, self.tokens_per_minute, self.tokens_per_day
        )
