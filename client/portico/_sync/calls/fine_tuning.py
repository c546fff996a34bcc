# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.fine_tuning`."""

from __future__ import annotations

from portico._read import Page
from portico._request import at, by_id, without_none
from portico._sync.group import Group
from portico.schemas.fine_tuning import TuningAppCheck, TuningCheckpoint, TuningEvent, TuningJob


class Tuning(Group):
    """Fine-tuning jobs: models trained on your examples, locally or at their provider."""

    def list(self, *, after: str | None = None, limit: int | None = None) -> Page[TuningJob]:
        """Return the caller's fine-tuning jobs, newest first. With ``metadata[k]=v``, return only jobs whose
        metadata contains the value.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET", "/v1/fine_tuning/jobs", Page[TuningJob], query=without_none(after=after, limit=limit)
        )

    def get(self, job_id: str) -> TuningJob:
        """Return one fine-tuning job."""
        return self._transport.request(
            "GET", at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job")), TuningJob
        )

    def check(self, job_id: str) -> TuningAppCheck:
        """Call the app of a job again with some of the job's examples, and compare the prompts. No chat model is
        called.
        """
        return self._transport.request(
            "POST",
            at("api", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "check"),
            TuningAppCheck,
            slow=True,
        )

    def cancel(self, job_id: str) -> TuningJob:
        """Cancel a fine-tuning job permanently."""
        return self._transport.request(
            "POST", at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "cancel"), TuningJob
        )

    def pause(self, job_id: str) -> TuningJob:
        """Pause a fine-tuning job. A resumed job continues from its last checkpoint."""
        return self._transport.request(
            "POST", at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "pause"), TuningJob
        )

    def resume(self, job_id: str) -> TuningJob:
        """Resume a paused fine-tuning job."""
        return self._transport.request(
            "POST", at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "resume"), TuningJob
        )

    def events(self, job_id: str, *, after: str | None = None, limit: int | None = None) -> Page[TuningEvent]:
        """Return the events of a fine-tuning job, newest first: messages and metrics.

        ``limit``: (default: ``20``).
        """
        return self._transport.request(
            "GET",
            at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "events"),
            Page[TuningEvent],
            query=without_none(after=after, limit=limit),
        )

    def checkpoints(
        self, job_id: str, *, after: str | None = None, limit: int | None = None
    ) -> Page[TuningCheckpoint]:
        """Return the checkpoints of a fine-tuning job, newest first.

        ``limit``: (default: ``10``).
        """
        return self._transport.request(
            "GET",
            at("v1", "fine_tuning", "jobs", by_id(job_id, "a fine-tuning job"), "checkpoints"),
            Page[TuningCheckpoint],
            query=without_none(after=after, limit=limit),
        )
