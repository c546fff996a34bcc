"""Lists the engines, and chooses the engine for a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.feature import Reference
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.known_models import profile_of
from portico_server.models.protocol import Engine, PlansGpus
from portico_server.models.sources.source import FORMS
from portico_server.models.spec import ModelSpec
from portico_server.plugins import PluginTable

_CLASSES: Mapping[str, Reference] = {
    "llamacpp": "portico_server.models.engines.llamacpp.engine:LlamaCpp",
    "vllm": "portico_server.features.gpu_engines.vllm.engine:Vllm",
    "lmdeploy": "portico_server.features.gpu_engines.lmdeploy.engine:LmDeploy",
    "transformers": "portico_server.features.gpu_engines.transformers.engine:Transformers",
    "static": "portico_server.models.engines.static.engine:Static",
    "remote": "portico_server.models.engines.remote.engine:Remote",
    "a2a": "portico_server.features.a2a.engine.engine:A2a",
    "fake": "portico_server.models.engines.fake.engine:Fake",
}


class _BuiltInEngines(Mapping[str, Engine]):
    """The built-in engines. The module of an engine is imported when a model first needs the engine, so the
    start of the daemon imports only two.
    """

    def __init__(self) -> None:
        self._engines: dict[str, Engine] = {}

    def __getitem__(self, name: str) -> Engine:
        if name not in self._engines:
            self._engines[name] = resolve_name(_CLASSES[name])()
        return self._engines[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


def _accept(candidate: Any) -> Engine:
    engine = candidate() if isinstance(candidate, type) else candidate
    if not isinstance(engine, Engine):
        raise InvalidRequest(f"an engine must have the members of Engine, but {candidate!r} does not.")
    return engine


ENGINES = PluginTable("engine", _BuiltInEngines(), _accept, reserved_names=("auto", *FORMS))
"""All engines by name, including those of plugins."""

# Any other source is a file or folder: llama.cpp runs GGUF files, and vLLM or transformers run folders with
# safetensors.
_BY_SCHEME = {
    **{name: name for name in ("fake", "static", "remote")},
    **dict.fromkeys(("http", "https"), "remote"),
    **dict.fromkeys(("a2a+http", "a2a+https"), "a2a"),
}


_CONFIGURATIONS = ("config.json", "model_index.json")
"""Configuration files of which a folder with safetensors contains one."""


_NEVER_LLAMA = ("speech", "transcription", "image")
"""Tasks for which no GGUF files exist."""

_OURS = ("rerank", *_NEVER_LLAMA)
"""Tasks that only the engine `transformers` supports for model folders."""


def engine_for(spec: ModelSpec, path: Path | None = None) -> Engine:
    """Return the engine that a spec names, or the engine for its source. ``path`` is the location of the files if they
    are downloaded.

    Raises `InvalidRequest` with the valid names.
    """
    scheme, separator, _remainder = spec.source.partition("://")
    engine_name = spec.engine
    if engine_name == "auto":
        scheme_name = scheme.lower() if separator else ""
        engine_name = _BY_SCHEME.get(scheme_name) or (
            scheme_name if scheme_name and scheme_name not in FORMS else _for_files(spec, path)
        )
    engine = ENGINES.get(engine_name)
    if engine is None:
        raise InvalidRequest(
            f"Unknown engine '{engine_name}' for the model '{spec.name}'. Choose one of auto, "
            f"{', '.join(ENGINES)}.{nearest(engine_name, ENGINES)}",
            param="engine",
        )
    if spec.task == "moderation" and engine_name in _CLASSES and engine_name != "remote":
        raise InvalidRequest(
            f"No local engine runs moderation models, so '{spec.name}' must be a provider's model, such as "
            "remote://openai/omni-moderation-latest. A chat model can also judge texts, without this task.",
            param="task",
        )
    return engine


def engines_that(ability: type) -> str:
    """Return the names of the engines that implement an optional protocol, for messages: ``llamacpp, vllm and
    fake``.
    """
    names = [engine.name for engine in ENGINES.usable() if isinstance(engine, ability)]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _for_files(spec: ModelSpec, path: Path | None) -> str:
    """Return the name of the engine for the files of a model. Until they are downloaded, the source decides."""
    if path is None:
        if spec.source.lower().endswith(".gguf"):
            return "llamacpp"
        return "transformers" if _announced(spec) in _NEVER_LLAMA else "llamacpp"
    folder = any((path / name).is_file() for name in _CONFIGURATIONS)
    return _for_folder(spec, path) if folder else "llamacpp"


def _announced(spec: ModelSpec) -> str:
    """Return the task of a model that its spec states or its name reveals, or ""."""
    if spec.task != "auto":
        return spec.task
    model_profile = profile_of(spec.source)
    return model_profile.task if model_profile is not None else "auto"


def _for_folder(spec: ModelSpec, path: Path) -> str:
    """Return the first GPU server that supports the task and whose `plan` succeeds on this machine, otherwise
    transformers.
    """
    if RECIPES["vllm"].unsuited():
        return "transformers"
    if ENGINES["transformers"].describe(_without_parameters(spec), path).task in _OURS:
        return "transformers"
    # Importing psutil must not slow down the start of the daemon.
    from portico_server.models.hardware import this_machine
    from portico_server.models.plan.planned_parameters import gpu_engine

    return gpu_engine(spec, path, this_machine(), gpu_engines())


def gpu_engines() -> list[PlansGpus]:
    """Return the engines that serve safetensors on GPUs, in order of preference. Imports all engines."""
    return [engine for engine in ENGINES.usable() if isinstance(engine, PlansGpus)]


def _without_parameters(spec: ModelSpec) -> ModelSpec:
    """Return the spec without parameters, because the chosen engine validates them later."""
    return replace(spec, parameters={})
