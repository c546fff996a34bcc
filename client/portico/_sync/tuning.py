# Generated from portico._async by scripts/sdk: change it there.
"""Fine-tuning: models trained on examples, locally or by their provider."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from portico._events import TuningEvents
from portico._request import at, check_path_name, without_none
from portico._sync.calls import fine_tuning as calls_fine_tuning
from portico._sync.knowledge import Files
from portico._sync.sessions import Sessions
from portico.schemas.fine_tuning import TuningEvent, TuningJob, TuningPlan
from portico.tuning import CollectedExamples, ExampleCollector

PURPOSE = "fine-tune"

RATING_PAGE_SIZE = 200
"""Maximum number of rated answers per request."""


class Tuning(calls_fine_tuning.Tuning):
    """Fine-tuning jobs: models trained on your examples, locally or by their provider."""

    def create(
        self,
        model: str,
        training_file: str | Path | None = None,
        *,
        validation_file: str | Path | None = None,
        method: str = "supervised",
        hyperparameters: Mapping[str, Any] | None = None,
        grader: Mapping[str, Any] | None = None,
        suffix: str = "",
        seed: int | None = None,
        metadata: Mapping[str, str] | None = None,
        recipe: Mapping[str, Any] | None = None,
        launcher: str | None = None,
        resources: Mapping[str, int | str] | None = None,
        app: str | None = None,
        store: str | None = None,
        questions: int | None = None,
        asker: str | None = None,
    ) -> TuningJob:
        """Start a job. A ``Path`` is uploaded, a ``str`` is the id of an uploaded file.

        ``method``: ``supervised``, ``dpo`` or ``reinforcement`` (with a ``grader`` in OpenAI's format); or
        ``embedding`` or ``rerank``. The last two train on the passages of a ``store``, with the questions from the
        file or with generated ones: ``questions`` is their number, and ``asker``, if given, is the chat model that
        writes them. ``launcher`` starts the training, such as ``slurm``; ``resources`` are requested from its
        scheduler. ``app`` is a deployed app whose prompts are added to the examples.
        """
        body = without_none(
            model=model,
            training_file=None if training_file is None else self._file(training_file),
            validation_file=None if validation_file is None else self._file(validation_file),
            method=_method(method, hyperparameters, grader),
            suffix=suffix or None,
            seed=seed,
            metadata=dict(metadata or {}) or None,
            recipe=dict(recipe or {}) or None,
            launcher=launcher,
            resources=dict(resources or {}) or None,
            app=app,
            store=store,
            questions=_questions(questions, asker),
        )
        return self._transport.request("POST", "/v1/fine_tuning/jobs", TuningJob, json=body)

    def plan(
        self,
        model: str,
        training_file: str | Path | None = None,
        *,
        validation_file: str | Path | None = None,
        method: str = "supervised",
        hyperparameters: Mapping[str, Any] | None = None,
        grader: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
        launcher: str | None = None,
        resources: Mapping[str, int | str] | None = None,
        app: str | None = None,
        store: str | None = None,
        questions: int | None = None,
        asker: str | None = None,
    ) -> TuningPlan:
        """Check the files and choose the recipe, without training. Files that are uploaded for the check are removed
        afterwards.
        """
        named_files = {"training_file": training_file, "validation_file": validation_file}
        files = {name: file for name, file in named_files.items() if file is not None}
        ids = {name: self._file(file) for name, file in files.items()}
        body = without_none(
            model=model,
            **ids,
            method=_method(method, hyperparameters, grader),
            recipe=dict(recipe or {}) or None,
            launcher=launcher,
            resources=dict(resources or {}) or None,
            app=app,
            store=store,
            questions=_questions(questions, asker),
        )
        try:
            path = "/api/fine_tuning/plan"
            return self._transport.request("POST", path, TuningPlan, json=body, slow=True)
        finally:
            for name, file in files.items():
                if isinstance(file, Path):
                    Files(self._transport).remove(ids[name])

    def collect(
        self,
        *,
        method: str = "supervised",
        app: str | None = None,
        model: str | None = None,
        held_back: float = 0.0,
    ) -> CollectedExamples:
        """Collect training examples, and evaluation items, from rated answers. ``app`` and ``model`` restrict the
        answers.

        ``method``: ``supervised`` or ``dpo``. ``held_back``: the share of the questions, from 0 to less than 1, that
        become items and are not trained on. Raises `InvalidRequest`.
        """
        sessions, collector = Sessions(self._transport), ExampleCollector(method, held_back)
        after: str | None = None
        while page := sessions.ratings(app=app, model=model, after=after, limit=RATING_PAGE_SIZE):
            for rating in page:
                collector.add(rating)
            after = page[-1].id
        return collector.collected()

    def _file(self, file: str | Path) -> str:
        if isinstance(file, str):
            return file
        return (Files(self._transport).add(file, purpose=PURPOSE)).id

    def follow(self, job_id: str, *, after: int = 0) -> Iterator[TuningEvent | TuningJob]:
        """Iterate over events numbered above ``after`` as they arrive, in order. The iteration survives lost
        connections.

        The last item is the job, once it has ended or is paused.
        """
        path = at("api", "fine_tuning", "jobs", check_path_name(job_id, "a fine-tuning job"), "follow")
        return self._follow(path, TuningEvents(after))


def _method(
    kind: str, hyperparameters: Mapping[str, Any] | None, grader: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "type": kind,
        kind: without_none(hyperparameters=dict(hyperparameters or {}) or None, grader=grader),
    }


def _questions(count: int | None, asker: str | None) -> dict[str, Any] | None:
    return without_none(count=count, model=asker) or None
