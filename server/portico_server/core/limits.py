"""What a key may use at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from portico_server.core.errors import InvalidRequest, nearest

MOST = 10**12


@dataclass(frozen=True, slots=True)
class Limits:
    """``None`` means no limit. ``concurrency`` is calls at the same time; a day begins at midnight UTC."""

    concurrency: int | None = None
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None

    @classmethod
    def parse(cls, given: Mapping[str, object] | None, param: str = "limits") -> Limits:
        """From JSON or YAML. Raises `InvalidRequest` that names the limit."""
        names = [item.name for item in fields(cls)]
        found: dict[str, int | None] = {}
        for name, value in (given or {}).items():
            if name not in names:
                raise InvalidRequest(
                    f"There is no limit '{name}'.{nearest(str(name), names)} Limits are {', '.join(names)}.",
                    param=f"{param}.{name}",
                )
            if value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
                raise InvalidRequest(
                    f"The limit '{name}' must be a whole number of at least 1, not {value!r}. Leave it out for no "
                    "limit.",
                    param=f"{param}.{name}",
                )
            found[name] = value
        return cls(**found)

    def to_json(self) -> dict[str, int]:
        """Those that are set."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if value is not None}
