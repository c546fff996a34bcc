"""Starts somebody else's server for a folder of safetensors, and finds out what it serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, cast

import orjson

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.engines import gpus
from portico_server.engines.child import Child
from portico_server.engines.environments.built import require
from portico_server.engines.environments.recipe import RECIPES
from portico_server.engines.guest.dialect import Advice, Dialect
from portico_server.engines.guest.lost import Watched
from portico_server.engines.guest.quiet import QUIET
from portico_server.engines.profiles import profile
from portico_server.engines.protocol import Description, Running, Site, Speaker
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec, Task


@dataclass(frozen=True, slots=True)
class Program:
    """What to run after the interpreter; ``{port}`` and ``{key}`` are put in where they stand alone."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    tells: bool = True
    """Whether its errors tell that it has lost its GPU; else it is asked how it is after each."""


Speaks: TypeAlias = Callable[[Child, Description], Speaker]


def interpreter(engine: str, spec: ModelSpec, site: Site) -> Path:
    """The parameter ``python``, or the engine's environment. Raises `InvalidRequest`, `Unavailable`."""
    given = spec.parameters.get("python")
    if given is None:
        return require(site.environments / engine, RECIPES[engine])
    path = Path(str(given)).expanduser()
    if not path.is_absolute() or not path.is_file():
        raise InvalidRequest(
            f"The parameter 'python' of '{spec.name}' must be the absolute path of an interpreter; there is none "
            f"at {given}.",
            param="parameters.python",
        )
    return path


def describe(spec: ModelSpec, path: Path | None) -> Description:
    """What the profile and the folder's configuration say. Reads small files only."""
    known = profile(spec.source)
    facts = _configuration(path)
    task: Task = "chat"
    if known is not None:
        task = known.task
    if path is not None and (path / "modules.json").is_file():
        task = "embedding"  # a sentence-transformers folder
    if _hears(path):
        task = "transcription"
    if spec.task != "auto":
        task = cast("Task", spec.task) if spec.task in ("embedding", "transcription") else "chat"
    context = spec.parameters.get("context_length") or facts.get("max_position_embeddings")
    if context is None and known is not None:
        context = known.context_length
    dimensions = facts.get("hidden_size") or (known.dimensions if known else None)
    return Description(
        task, context, dimensions if task == "embedding" else None, long_prompts=task == "chat"
    )


def _hears(path: Path | None) -> bool:
    """Whether the folder holds a Whisper, which vLLM serves as such."""
    try:
        found = json.loads((path / "config.json").read_text(encoding="utf-8")) if path is not None else {}
    except (OSError, ValueError):
        return False
    names = found.get("architectures") if isinstance(found, dict) else None
    return "WhisperForConditionalGeneration" in (names or ())


def _configuration(path: Path | None) -> dict[str, Any]:
    if path is None or not path.is_dir():
        return {}
    try:
        found = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # starting it will say what is wrong; the list of models must not fail for it
    inner = found.get("text_config") if isinstance(found, dict) else None
    facts = inner if isinstance(inner, dict) else found
    return {key: value for key, value in facts.items() if isinstance(value, int)} if facts else {}


async def start(
    engine: str,
    program: Program,
    spec: ModelSpec,
    path: Path | None,
    site: Site,
    *,
    advice: Advice,
    quirks: Quirks,
    enforces: bool = False,
    speaks: Speaks | None = None,
) -> Running:
    """Start ``program`` and wait until it answers. ``enforces``: it sees to it that tools which must be called are;
    ``speaks`` makes who speaks to it, if bytes cannot just be passed on.

    Raises `PorticoError`; nothing is left behind then or when cancelled.
    """
    # aiohttp is imported by now; this module is imported before it.
    from portico_server.engines.guest.forced import Forced
    from portico_server.engines.passthrough import Passthrough
    from portico_server.engines.remote.fitted import Fitted
    from portico_server.engines.transport import CONNECTION_ERRORS, Route
    from portico_server.engines.upstream import Upstream

    assert path is not None
    if not await pools.MODELS.run(path.is_dir):
        raise InvalidRequest(
            f"'{spec.source}' is one file, but the engine '{engine}' takes a folder with safetensors. Use the engine "
            "'llamacpp' for it, or name the repository of the original model.",
            code="model_file_invalid",
            param="source",
        )
    python = await pools.MODELS.run(interpreter, engine, spec, site)
    child = await _child(python, program, spec, site, advice)
    try:
        deadline = asyncio.get_running_loop().time() + site.load_timeout
        listed = await site.transport.get(Route(child.endpoint(spec.name), "models"), deadline=deadline)
        description = _served(describe(spec, path), orjson.loads(listed))
    except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
        await child.stop()
        raise EngineFailed(f"The engine of '{spec.name}' started but does not answer: {error}.") from error
    except BaseException:
        await child.stop()
        raise
    speaker: Speaker
    if speaks is not None:
        speaker = speaks(child, description)
    else:
        speaker = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        if not enforces:
            speaker = Forced(speaker, site.transport, child, spec.name, description)
    health = Route(child.endpoint(spec.name, base=""), program.health.lstrip("/"))
    speaker = Watched(speaker, child, site.transport, health, spec.name, tells=program.tells)
    speaker = Fitted(Dialect(speaker, advice), quirks, spec.name)
    return Running(speaker, description, child)


async def _child(python: Path, program: Program, spec: ModelSpec, site: Site, advice: Advice) -> Child:
    try:
        return await Child.start(
            "portico_server.engines.guest.warden",
            {
                "command": [str(python), *program.arguments],
                "environment": {**QUIET, **program.environment, **gpus.environment(site.gpus)},
                "health": program.health,
            },
            name=spec.name,
            log=site.log,
            timeout=site.load_timeout,
            report=site.report,
        )
    except EngineFailed as error:
        if not (wise := advice(error.message)):
            raise
        raise EngineFailed(f"{error.message} {wise}", code=error.code) from error


def _served(known: Description, listed: Any) -> Description:
    """What the server says about its model, over what its files say."""
    models = listed.get("data") if isinstance(listed, dict) else None
    length = models[0].get("max_model_len") if models else None
    if not isinstance(length, int):
        return known
    return replace(known, context_length=length)
