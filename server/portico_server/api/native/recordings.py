"""``/api/runs``: recordings of runs, and their replays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, Field

from portico.schemas.runs import Replay
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.native.runs import find_run
from portico_server.api.services import ApiServices
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable
from portico_server.runs import recording_file
from portico_server.runs.ended_runs import MAX_ENDED_RUNS
from portico_server.runs.recording import MAX_BYTES, MAX_STEPS, RecordedApp
from portico_server.runs.recording_file import RecordedRun, SecretRules
from portico_server.runs.redaction import parse_rules
from portico_server.runs.replay import KIND, LiveTargets, Replayer, compare, replay

router = new_router(prefix="/api/runs", tags=["Runs"])

MAX_SHOWN_PARTS: Final = 20
"""Maximum number of missing parts that an error names."""


class ReplayedRun(BaseModel, extra="forbid"):
    """A ``recording`` to replay, and the parts to exchange.

    ``model`` answers all chat requests, and ``store`` all searches, instead of the recording. ``version`` is another
    version of the app. ``changes`` map places in the app's specification to other values, as in an update of the app.
    ``current``: the app, and the apps that it calls, run in their current versions instead of the recorded ones.
    """

    recording: dict[str, Any]
    model: str = ""
    store: str = ""
    version: int | None = Field(default=None, ge=1)
    changes: dict[str, Any] = Field(default_factory=dict)
    current: bool = False


@router.get("/{run_id}/recording")
async def retrieve_recording(run_id: str, services: TheServices, caller: Caller) -> dict[str, Any]:
    """Return the recording of an ended run of an app: its input, each call with its result, its output. Secrets are
    left out.

    The daemon keeps the recordings of recent runs in memory.
    """
    living = (await find_run(services, run_id, caller)).living
    if living is not None and not living.ended:
        raise Conflict(f"The run '{run_id}' has not ended.", code="run_not_ended", param="id")
    recording = None if living is None else living.recording
    if living is None or recording is None:
        raise NotFound(
            f"The run '{run_id}' has no recording in this daemon: the daemon records runs of apps, and keeps those of "
            f"its last {MAX_ENDED_RUNS} runs until it stops. Run the app again.",
            code="recording_not_found",
            param="id",
        )
    if not recording.is_complete:
        raise NotFound(
            f"The run '{run_id}' was too large to record: a recording has at most {MAX_STEPS:,} calls and "
            f"{MAX_BYTES // 2**20} MiB.",
            code="recording_too_large",
            param="id",
        )
    if recording.is_withheld and not caller.admin:
        raise Forbidden(
            f"The recording of '{living.name}' shows what its apps do, which only their owners may read."
        )
    return await pools.DOCUMENTS.run_for(caller.id, recording_file.to_document, living, _secrets(services))


@router.post("/replay")
async def replay_run(body: ReplayedRun, services: TheServices, caller: Caller) -> Replay:
    """Run the app of a recording again, and compare the two runs. The recording answers the calls of models, stores
    and tools, so the replay reaches no network and changes nothing.
    """
    recorded = await pools.DOCUMENTS.run_for(caller.id, RecordedRun.parse, body.recording)
    apps = await _find_apps(recorded, body, services, caller)
    app = apps[recorded.app.name, recorded.app.version]
    replayer = Replayer(services.registry, LiveTargets(body.model, body.store), apps)

    async def work(context: Context) -> Any:
        return await replay(services.runner, context, recorded, app, replayer)

    result, error = await services.runner.wait(
        await services.runner.begin(KIND, recorded.app.name[:200], caller, work)
    )
    return await pools.DOCUMENTS.run_for(
        caller.id, compare, recorded, replayer, result, error, _secrets(services)
    )


async def _find_apps(
    recorded: RecordedRun, body: ReplayedRun, services: ApiServices, caller: Principal
) -> Mapping[tuple[str, int], Servable]:
    """Return the apps that a replay runs, by their recorded names and versions. Raise `NotFound` that names all
    missing parts.
    """
    called = {(step.app.name, step.app.version): step.app for step in recorded.all_steps() if step.app}
    apps: dict[tuple[str, int], Servable] = {}
    missing: list[NotFound] = []
    for key, part in called.items():
        try:
            apps[key] = await _find_app(part, services, caller, current=body.current)
        except NotFound as error:
            missing.append(error)
    main = recorded.app
    try:
        apps[main.name, main.version] = await _find_app(
            main if body.version is None else replace(main, version=body.version),
            services,
            caller,
            body.changes,
            current=body.current and body.version is None,
        )
    except NotFound as error:
        missing.append(error)
    for target in filter(None, (body.model, body.store and f"store/{body.store}")):
        try:
            servable = await services.registry.resolve(target, caller)
        except NotFound as error:
            missing.append(error)
            continue
        if target == body.model and servable.card.kind != "model":
            raise InvalidRequest(
                f"'{target}' is not a model. Only a model can answer instead of the recording.", param="model"
            )
    if missing:
        messages = dict.fromkeys(error.message for error in missing)
        raise NotFound(
            f"The replay lacks {len(messages)} of its parts. {' '.join(list(messages)[:MAX_SHOWN_PARTS])}",
            code="parts_not_found",
            param="recording",
        )
    return apps


async def _find_app(
    part: RecordedApp,
    services: ApiServices,
    caller: Principal,
    changes: Mapping[str, Any] | None = None,
    *,
    current: bool = False,
) -> Servable:
    """Return a recorded app, in its recorded version unless ``current`` is set. Raise `NotFound`."""
    if part.spec is not None:
        if changes:
            raise InvalidRequest(
                f"The flow '{part.name}' is not deployed: deploy it to replay it with changes.",
                param="changes",
            )
        flows = await services.features.load("flows")
        undeployed: Servable = await flows.undeployed(part.spec, caller)
        return undeployed
    servable = await services.registry.resolve(part.name, caller)
    if servable.card.kind != "app":
        raise NotFound(f"The app '{part.name}' does not exist.", code="app_not_found", param="recording")
    if "version" not in servable.card.labels and not changes:
        return servable
    version = None if current or not part.version else part.version
    variant = await services.apps.variant(part.name, changes or {}, caller, version)
    return services.registry.admit(variant, caller)


def _secrets(services: ApiServices) -> SecretRules:
    settings = services.loaded.settings
    return SecretRules(parse_rules(settings.redact, settings.redact_pattern), _find_secrets)


def _find_secrets(text: str) -> list[str]:
    """Return the parts of a text that look like keys, tokens or passwords."""
    # imported only for a recording
    from portico_server.core.detectors import find
    from portico_server.core.secret_detectors import SECRETS

    return [text[hit.start : hit.end] for hit in find(text, SECRETS)]
