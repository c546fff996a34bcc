"""Fine-tuning in `portico.AsyncClient`. What each call sends and reads is in `portico._tuning`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from portico._calls.knowledge import file_add, file_remove
from portico._calls.tuning import (
    Following,
    checkpoints_list,
    events_list,
    job_change,
    job_create,
    job_get,
    jobs_list,
    plan,
)
from portico._transport import AsyncTransport
from portico.errors import ConnectionLost
from portico.tuning import TuningCheckpoint, TuningEvent, TuningJob, TuningPlan, TuningWish
from portico.values import Page

PURPOSE = "fine-tune"


class Tuning:
    """Fine-tuning jobs: local models trained on your examples."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create(
        self,
        model: str,
        training_file: str | Path,
        *,
        validation_file: str | Path | None = None,
        method: str = "supervised",
        hyperparameters: Mapping[str, Any] | None = None,
        grader: Mapping[str, Any] | None = None,
        suffix: str = "",
        seed: int | None = None,
        metadata: Mapping[str, str] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> TuningJob:
        """Begin a job. A ``Path`` is uploaded, a ``str`` is the id of an uploaded file.

        ``method``: ``supervised``, ``dpo`` or ``reinforcement`` (with a ``grader``, as OpenAI writes them).
        """
        wish = TuningWish(
            model,
            await self._file(training_file),
            None if validation_file is None else await self._file(validation_file),
            method,
            hyperparameters or {},
            grader,
            suffix,
            seed,
            metadata or {},
            recipe or {},
        )
        return await self._transport.send(job_create(wish))

    async def plan(
        self,
        model: str,
        training_file: str | Path,
        *,
        validation_file: str | Path | None = None,
        method: str = "supervised",
        hyperparameters: Mapping[str, Any] | None = None,
        grader: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> TuningPlan:
        """Check the files and choose the recipe, without training; files that are uploaded for it are removed again."""
        given = [file for file in (training_file, validation_file) if file is not None]
        ids = [await self._file(file) for file in given]
        try:
            wish = TuningWish(
                model,
                ids[0],
                ids[1] if len(ids) > 1 else None,
                method,
                hyperparameters or {},
                grader,
                recipe=recipe or {},
            )
            return await self._transport.send(plan(wish))
        finally:
            for file, file_id in zip(given, ids, strict=True):
                if isinstance(file, Path):
                    await self._transport.send(file_remove(file_id))

    async def _file(self, file: str | Path) -> str:
        if isinstance(file, str):
            return file
        uploaded = await self._transport.send(file_add(file, None, PURPOSE))
        return uploaded.id

    async def list(self, *, after: str | None = None, limit: int = 20) -> Page[TuningJob]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return await self._transport.send(jobs_list(after, limit))

    async def get(self, job_id: str) -> TuningJob:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(job_get(job_id))

    async def cancel(self, job_id: str) -> TuningJob:
        """End a job for good. Raises `Conflict` if it has ended."""
        return await self._transport.send(job_change(job_id, "cancel"))

    async def pause(self, job_id: str) -> TuningJob:
        """Stop a job behind its last checkpoint."""
        return await self._transport.send(job_change(job_id, "pause"))

    async def resume(self, job_id: str) -> TuningJob:
        """Go on with a paused job."""
        return await self._transport.send(job_change(job_id, "resume"))

    async def events(self, job_id: str, *, after: str | None = None, limit: int = 20) -> Page[TuningEvent]:
        """What happened, newest first: one page."""
        return await self._transport.send(events_list(job_id, after, limit))

    async def checkpoints(
        self, job_id: str, *, after: str | None = None, limit: int = 10
    ) -> Page[TuningCheckpoint]:
        """Its checkpoints, newest first: one page."""
        return await self._transport.send(checkpoints_list(job_id, after, limit))

    async def follow(self, job_id: str, *, after: int = 0) -> AsyncIterator[TuningEvent | TuningJob]:
        """Events with a number above ``after``, in order as they come, through lost connections; last the job, when it
        has ended or is paused.
        """
        following = Following(job_id, after)
        while not following.done:
            try:
                async for item in self._transport.stream(following.call()):
                    following.saw(item)
                    yield item
            except ConnectionLost as error:
                await self._transport.rest(following.pause(error))
