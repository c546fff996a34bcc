"""Admission of a job: its specification is checked before anything is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.features.grading import graders
from portico_server.features.training import app_prompts, hosted
from portico_server.features.training.job_context import JobContext
from portico_server.features.training.recipe_settings import check_overrides
from portico_server.features.training.spec import RETRIEVAL_METHODS, FineTuningSpec
from portico_server.launchers.protocol import Resources
from portico_server.launchers.several_nodes import NODES_LAUNCHER

FINETUNE_SCOPE: Final = "finetune"

FILE_PURPOSE: Final = "fine-tune"


async def check_spec(place: JobContext, spec: FineTuningSpec, caller: Principal) -> FineTuningSpec:
    """Return the specification with its names resolved.

    Raises `Forbidden`, `NotFound` and `InvalidRequest` for errors in the request itself; the files are not read yet.
    """
    caller.require(FINETUNE_SCOPE)
    base = place.bases.check(spec.base, caller, task=spec.task)
    check_overrides(spec.overrides, "recipe")
    launcher = spec.launcher or place.launcher
    if Resources.parse(spec.resources).nodes > 1 and launcher != NODES_LAUNCHER:
        raise InvalidRequest(
            f"The launcher '{launcher}' can start training only on one node. Use '{NODES_LAUNCHER}', or "
            "leave out 'nodes'.",
            param="resources.nodes",
        )
    spec = await _check_store(place, spec, caller)
    if (tuner := place.bases.tuner(base)) is not None:
        hosted.check(replace(spec, base=base), tuner)
    if spec.app:
        app = await app_prompts.find_app(spec.app, place.registry, caller)
        spec = replace(spec, app=app.card.name)
    if spec.method == "reinforcement":
        graders.check(spec.grader)
        graders.require_rights(spec.grader, caller)
        for judge in sorted(graders.judges(spec.grader)):
            await place.registry.resolve(judge, caller)
    for param, file_id in (
        ("training_file", spec.training_file),
        ("validation_file", spec.validation_file),
    ):
        if not file_id:
            continue
        try:
            file = await place.files.readable(file_id, caller)
        except NotFound as error:
            raise InvalidRequest(error.message, code="file_not_found", param=param) from error
        if file.purpose != FILE_PURPOSE:
            raise InvalidRequest(
                f"'{file.filename}' was uploaded for '{file.purpose}'; upload it with the purpose "
                f"'{FILE_PURPOSE}'.",
                code="invalid_file_purpose",
                param=param,
            )
    return FineTuningSpec.from_json({**spec.to_json(), "base": base})


async def _check_store(place: JobContext, spec: FineTuningSpec, caller: Principal) -> FineTuningSpec:
    """Return the specification with the name of the store resolved, if the method trains on a store."""
    file_only_fields = {"validation_file": spec.validation_file, "grader": spec.grader, "app": spec.app}
    of_stores = {"store": spec.store, "questions": spec.questions}
    if spec.method not in RETRIEVAL_METHODS:
        field_name = next((name for name, value in of_stores.items() if value), None)
        if field_name is not None:
            raise InvalidRequest(
                f"'{field_name}' requires the methods {' and '.join(RETRIEVAL_METHODS)}, but the method is "
                f"'{spec.method}'.",
                param=field_name,
            )
        if not spec.training_file:
            raise InvalidRequest(
                "'training_file' is missing: the id of an uploaded file with the purpose 'fine-tune'.",
                code="missing_required_parameter",
                param="training_file",
            )
        return spec
    for name, value in file_only_fields.items():
        if value:
            reason = (
                "whole files of the store are held out"
                if name == "validation_file"
                else "the method does not train a chat model"
            )
            raise InvalidRequest(
                f"'{name}' cannot be used with the method '{spec.method}': {reason}. Leave it out.",
                param=name,
            )
    if not spec.store:
        raise InvalidRequest(
            f"The method '{spec.method}' trains on the passages of a store: name the store in 'store'.",
            code="missing_required_parameter",
            param="store",
        )
    if spec.training_file and spec.questions:
        raise InvalidRequest(
            "Send either a file with questions or the 'questions' to generate, not both.",
            param="questions",
        )
    if spec.overrides.get("kind") == "qlora":
        raise InvalidRequest(
            f"The method '{spec.method}' trains all weights ('full') or an adapter that is merged into them "
            "('lora').",
            param="recipe.kind",
        )
    if spec.asker:
        asker = await place.registry.resolve(spec.asker, caller)
        if "chat" not in asker.card.capabilities:
            raise InvalidRequest(
                f"'{spec.asker}' is not a chat model, so it cannot generate questions.",
                param="questions.model",
            )
    return replace(spec, store=await place.stores.readable(spec.store, caller))
