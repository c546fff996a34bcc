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
"""The code of the error for something that the provider does not have."""

KEY_REFUSED: str = "invalid_provider_key"
"""The code of the error for a key that the provider refuses."""


@dataclass(frozen=True, slots=True)
class HostedOrder:
    """What a provider is asked for. ``key`` is our own id of the job.

    ``training`` and ``validation`` are what `HostedTuner.upload` gave. ``None`` leaves a number to the provider.
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
    """A job as it stands there. ``model`` is the provider's id of the result, ``tokens`` what was trained on.

    ``ends_at`` is when it expects to be done, in seconds since 1970.
    """

    id: str
    status: HostedStatus
    model: str = ""
    tokens: int | None = None
    error: str = ""
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class HostedEvent:
    """Something that happened there: a sentence, or with ``values`` what a step measured, by the names of `Metrics`.

    ``cursor`` is what `HostedTuner.events` takes for those behind this one. A provider that does not number its steps
    leaves ``step`` out.
    """

    cursor: str
    message: str
    level: Literal["info", "warn", "error"] = "info"
    step: int | None = None
    total: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)


class HostedTuner(Protocol):
    """The fine-tuning API of one provider for one base.

    Every call raises `PorticoError`: `Unavailable` and `EngineFailed` for what may pass, `InvalidRequest` with the
    provider's words for what it refuses, with the code `GONE` or `KEY_REFUSED` where one of them is the reason. No
    text that comes from there contains the provider's key.
    """

    provider: str
    methods: Sequence[str]
    takes: AbstractSet[str]
    """Which of ``validation_file`` and the hyperparameters can be asked for."""
    missing: str
    """Why nothing can be asked of it, such as a key that is not configured; empty where all is there."""
    price: float | None
    """US dollars for a million trained tokens, if that is known."""

    def line(self, example: Mapping[str, Any], method: str) -> Any:
        """A checked example as the provider takes it. Raises `InvalidRequest` for what it cannot honour."""

    async def upload(self, path: Path, name: str) -> str:
        """What an order calls a file of such lines: sent now, or found there under its name."""

    async def create(self, order: HostedOrder) -> HostedJob:
        """Begin a job."""

    async def find(self, key: str, training: str) -> HostedJob | None:
        """The job that an order with this key, or on this training file, has begun, if there is one."""

    async def get(self, job_id: str) -> HostedJob:
        """A job as it is now."""

    async def events(self, job_id: str, after: str) -> Sequence[HostedEvent]:
        """What happened behind the event with the cursor ``after``, or all of it, oldest first."""

    async def cancel(self, job_id: str) -> None:
        """End a job. One that has ended stays as it is."""

    async def serve(self, model: str) -> str | None:
        """What the result is called once it answers; ``None`` while the provider makes it ready."""
