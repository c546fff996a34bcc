"""Jobs that a search over settings orders: `portico_server.core.interfaces.Trainer` over the jobs of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from portico_server.core.errors import Unavailable
from portico_server.core.interfaces import Told
from portico_server.core.principal import Principal
from portico_server.finetune.jobs import Jobs
from portico_server.finetune.spec import Job, Spec

SEARCH: Final = "portico_search"
KEY: Final = "portico_trial"
"""What the metadata of such a job has: its search, and which of its trials it is for."""

MOST: Final = 1_000


class Orders:
    """``read`` makes a specification of a wish; it raises `InvalidRequest`."""

    def __init__(self, jobs: Jobs, read: Callable[[Mapping[str, Any]], Spec]) -> None:
        self._jobs = jobs
        self._read = read

    async def check(self, wish: Mapping[str, Any], caller: Principal) -> None:
        await self._jobs.check(self._read(wish), caller)

    async def begin(self, wish: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        known = await self._jobs.list(caller, limit=1, metadata={SEARCH: search, KEY: key})
        if known.data:
            return known.data[0].id
        spec = self._read(wish)
        metadata = {**spec.metadata, SEARCH: search, KEY: key}
        return (await self._jobs.create(replace(spec, metadata=metadata), caller)).id

    async def trained(self, job_id: str, caller: Principal, told: Told) -> str:
        async for found in self._jobs.follow(job_id, caller):
            if not isinstance(found, Job):
                if found.kind == "metrics" and found.step is not None:
                    await told(found.step, found.data.get("total_steps"))
                continue
            if found.status == "succeeded":
                return found.model
            why = (found.error or {}).get("message") or f"It is {found.status}."
            raise Unavailable(
                f"The fine-tuning job '{found.id}' made no model: {why}", code="training_failed"
            )
        raise Unavailable(f"The fine-tuning job '{job_id}' cannot be followed.", code="training_failed")

    async def stop(self, search: str, caller: Principal) -> None:
        found = await self._jobs.list(caller, limit=MOST, metadata={SEARCH: search})
        for job in found.data:
            if not job.ended:
                await self._jobs.cancel(job.id, caller)
