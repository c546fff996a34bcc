"""The files of a job: read, checked, and written in the format that training reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.base_models import BaseModel
from portico_server.core.context import Context
from portico_server.core.principal import Principal
from portico_server.features.training import app_prompts, data, question_files
from portico_server.features.training.job_context import JobContext
from portico_server.features.training.spec import RETRIEVAL_METHODS, FineTuningSpec, PreparedData
from portico_server.features.training.token_counts import ModelTokenCounter

APP_STATE: Final = "app_prompts"
"""Field of a job's state about its app: the app's ``version``, and ``examples`` for later checks."""


@asynccontextmanager
async def training_files(
    place: JobContext, spec: FineTuningSpec, folder: Path, context: Context, caller: Principal
) -> AsyncIterator[tuple[Path, Path | None, Mapping[str, Any]]]:
    """Yield the training file and the validation file, as uploaded or with the prompts of the app, and the state to
    store about the app.

    ``context`` has the permissions of the job's owner; ``caller`` has the permissions for the files.
    """
    ids = {"training_file": spec.training_file, "validation_file": spec.validation_file}
    rows = {param: await place.files.readable(file_id, caller) for param, file_id in ids.items() if file_id}
    async with AsyncExitStack() as exit_stack:
        paths = {
            param: await exit_stack.enter_async_context(place.files.open(row.sha256))
            for param, row in rows.items()
        }
        state: dict[str, Any] = {}
        if spec.app:
            app = await app_prompts.find_app(spec.app, place.registry, context.caller)
            await pools.TRAINING.run(partial(folder.mkdir, parents=True, exist_ok=True))

            async def report(done_count: int) -> None:
                await context.emit(
                    Progressed("prompts", f"Prompts of '{spec.app}'", done_count, None, "examples")
                )

            for param, path in paths.items():
                paths[param] = folder / f"{param}.prompts.jsonl"
                try:
                    examples = await app_prompts.write_prompts(
                        app, spec, path, paths[param], param, place.registry, context, report
                    )
                except FileNotFoundError as error:
                    raise data.content_missing(param) from error
                if param == "training_file":
                    kept_examples = [asdict(example) for example in examples]
                    state = {"version": app_prompts.version_of(app.card), "examples": kept_examples}
        yield paths["training_file"], paths.get("validation_file"), state


async def examine_files(
    place: JobContext,
    spec: FineTuningSpec,
    folder: Path,
    context: Context,
    caller: Principal,
    judging: Context,
) -> tuple[BaseModel, PreparedData, tuple[str, ...], Mapping[str, Any]]:
    """Download the base model, check the files, and write the training input to ``folder``. Return the base model, the
    prepared data, warnings, and the state to store about the app.

    ``judging`` is a context with the permissions of the job's owner.
    """

    async def on_fetch(done_bytes: int, total: int | None) -> None:
        await context.emit(Progressed("download", spec.base, done_bytes, total, "bytes"))

    async def report(done_bytes: int, total: int) -> None:
        await context.emit(Progressed("validate", "Reading the examples", done_bytes, total, "bytes"))

    base = await place.bases.base(spec.base, caller, on_fetch, task=spec.task)
    if spec.method in RETRIEVAL_METHODS:

        async def on_stage(stage: str, words: str, done_count: int, total: int) -> None:
            await context.emit(Progressed(stage, words, done_count, total, "questions"))

        async with AsyncExitStack() as exit_stack:
            file = None
            if spec.training_file:
                row = await place.files.readable(spec.training_file, caller)
                file = await exit_stack.enter_async_context(place.files.open(row.sha256))
            asked_data, sentences = await question_files.prepare_questions(
                spec, file, folder, place.stores, judging, base.longest, on_stage
            )
        return base, asked_data, sentences, {}
    async with training_files(place, spec, folder, judging, caller) as (training, validation, app_state):
        prepared_data, warnings = await data.prepare_data(
            spec,
            (training, validation),
            folder,
            ModelTokenCounter(context, base.name),
            base.longest,
            report,
        )
    return base, prepared_data, warnings, app_state
