"""Fine-tuning at a provider, as the jobs of this daemon see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from portico_server.core.dataclass import dataclass

HostedStatus: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]

GONE: str = "gone_at_provider"
"""Error code for an object that does not exist at the provider."""

KEY_REFUSED: str = "invalid_provider_key"
"""Error code for a key that the provider rejects."""


@dataclass(frozen=True, slots=True)
class HostedOrder:
    """A training order for a provider. ``key`` is Portico's id of the job.

    ``training`` and ``validation`` come from `HostedTuner.upload`. ``None`` leaves a number to the provider.
    """

    key: str
    method: str
    training: str
    validation: str | None = None
    suffix: str = ""
    seed: int = 42
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    beta: float | None = None


@dataclass(frozen=True, slots=True)
class HostedJob:
    """The current state of a job at the provider.

    ``model`` is the provider's id of the result, ``tokens`` the number of training tokens, and ``ends_at`` the
    expected end in seconds since 1970.
    """

    id: str
    status: HostedStatus
    model: str = ""
    tokens: int | None = None
    error: str = ""
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class HostedEvent:
    """An event at the provider: a sentence or, with ``values``, the measurements of a step, by the names of `Metrics`.

    ``cursor`` is what `HostedTuner.events` accepts to return later events. A provider that does not number its steps
    leaves ``step`` out.
    """

    cursor: str
    message: str
    level: Literal["info", "warn", "error"] = "info"
    step: int | None = None
    total: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class HostedTuner(Protocol):
    """The fine-tuning API of a provider for one base.

    Every call raises `PorticoError`: `Unavailable` and `EngineFailed` for transient failures, `InvalidRequest` with
    the provider's words for a rejected request, with the code `GONE` or `KEY_REFUSED` where it applies. No text from
    the provider contains its key.
    """

    provider: str
    methods: Sequence[str]
    takes: AbstractSet[str]
    """The supported fields among ``validation_file`` and the hyperparameters."""
    missing: str
    """Why the provider cannot be used, such as a missing key; empty if it can."""
    price: float | None
    """US dollars for a million trained tokens, if known."""

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """Return a checked example in the provider's form. Raises `InvalidRequest` for a field that the provider
        cannot honour.
        """

    async def upload(self, path: Path, name: str) -> str:
        """Return the reference for a file of such lines: uploaded now, or found at the provider by its name."""

    async def create(self, order: HostedOrder) -> HostedJob:
        """Start a job."""

    async def find(self, key: str, training: str) -> HostedJob | None:
        """Return the job that an order with this key, or on this training file, has started, if any."""

    async def get(self, job_id: str) -> HostedJob:
        """Return the current state of a job."""

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """Return the events after the cursor ``after``, or all events, oldest first."""

    async def cancel(self, job_id: str) -> None:
        """Cancel a job. A job that has ended does not change."""

    async def serve(self, model: str) -> str | None:
        """Return the name of the result once it answers; ``None`` while the provider prepares it."""
