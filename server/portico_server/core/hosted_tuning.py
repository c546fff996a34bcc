"""The interface that fine-tuning jobs use to train at a provider."""

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
    """A training order for a provider. ``key`` is the id of Portico's own job.

    ``training`` and ``validation`` are references that `HostedTuner.upload` returned. If a number is ``None``, the
    provider chooses it.
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

    ``model`` is the provider's id of the trained model, ``tokens`` is the number of training tokens, and ``ends_at``
    is the expected end in seconds since 1970.
    """

    id: str
    status: HostedStatus
    model: str = ""
    tokens: int | None = None
    error: str = ""
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class HostedEvent:
    """An event at the provider: a sentence or, with ``values``, the measurements of a step, keyed by the names of
    `Metrics`.

    Pass ``cursor`` to `HostedTuner.events` to get later events. ``step`` is ``None`` if the provider does not number
    its steps.
    """

    cursor: str
    message: str
    level: Literal["info", "warn", "error"] = "info"
    step: int | None = None
    total: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class HostedTuner(Protocol):
    """The fine-tuning API of a provider for one base model.

    Every call raises `PorticoError`: `Unavailable` and `EngineFailed` for transient failures, `InvalidRequest` with
    the provider's message for a rejected request, with the code `GONE` or `KEY_REFUSED` if it applies. Portico removes
    the provider's key from all texts.
    """

    provider: str
    methods: Sequence[str]
    takes: AbstractSet[str]
    """The fields that the provider supports, among ``validation_file`` and the hyperparameters."""
    missing: str
    """The reason why the provider cannot be used, such as a missing key; empty if it can be used."""
    price: float | None
    """US dollars per million training tokens, if known."""

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """Return a checked example in the provider's format. Raises `InvalidRequest` for a field that the provider
        does not support.
        """

    async def upload(self, path: Path, name: str) -> str:
        """Return the provider's reference for a file of lines that `line` returned. The file is uploaded unless the
        provider already has a file with this name.
        """

    async def create(self, order: HostedOrder) -> HostedJob:
        """Start a job."""

    async def find(self, key: str, training: str) -> HostedJob | None:
        """Return the job that was started by an order with this key, or with this training file, if any."""

    async def get(self, job_id: str) -> HostedJob:
        """Return the current state of a job."""

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """Return the events after the cursor ``after``, oldest first. An empty cursor returns all events."""

    async def cancel(self, job_id: str) -> None:
        """Cancel a job. A job that has ended does not change."""

    async def serve(self, model: str) -> str | None:
        """Return the name under which the trained model answers, or ``None`` while the provider is still preparing
        it.
        """
