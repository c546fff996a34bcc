"""Which engines there are, and which one takes a source."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.known_models import profile_of
from portico_server.models.protocol import Engine, PlansGpus
from portico_server.models.sources.source import FORMS
from portico_server.models.spec import ModelSpec
from portico_server.plugins import PluginTable

_CLASSES: Mapping[str, str] = {
    "llamacpp": "LlamaCpp",
    "vllm": "Vllm",
    "lmdeploy": "LmDeploy",
    "transformers": "Transformers",
    "static": "Static",
    "remote": "Remote",
    "a2a": "A2a",
    "fake": "Fake",
}


class _BuiltInEngines(Mapping[str, Engine]):
    """Those of this package; a module is imported when a model first needs it, so that a start imports two of them."""

    def __init__(self) -> None:
        self._loaded: dict[str, Engine] = {}

    def __getitem__(self, name: str) -> Engine:
        if name not in self._loaded:
            loader_name = _CLASSES[name]
            module = importlib.import_module(f"portico_server.models.engines.{name}.engine")
            self._loaded[name] = getattr(module, loader_name)()
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_CLASSES)

    def __len__(self) -> int:
        return len(_CLASSES)


def _accept(candidate: Any) -> Engine:
    engine = candidate() if isinstance(candidate, type) else candidate
    if not isinstance(engine, Engine):
        raise InvalidRequest(f"an engine must have the members of Engine, which {candidate!r} lacks.")
    return engine


ENGINES = PluginTable("engine", _BuiltInEngines(), _accept, reserved_names=("auto", *FORMS))
"""Every engine by its name, those of plugins too."""

# What is not listed is a file: GGUF is llama.cpp's, a folder with safetensors vLLM's or that of transformers.
_BY_SCHEME = {
    **{name: name for name in ("fake", "static", "remote")},
    **dict.fromkeys(("http", "https"), "remote"),
    **dict.fromkeys(("a2a+http", "a2a+https"), "a2a"),
}


_CONFIGURATIONS = ("config.json", "model_index.json")
"""What a folder with safetensors has beside them."""


_NEVER_LLAMA = ("speech", "transcription", "image")
"""Tasks that no GGUF file has."""

_OURS = ("rerank", *_NEVER_LLAMA)
"""Tasks of folders that the engine `transformers` alone does."""


def engine_for(spec: ModelSpec, path: Path | None = None) -> Engine:
    """The engine that a spec names, or the one that takes its source; ``path`` if its files are here.

    Raises `InvalidRequest` with the names.
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
            f"There is no engine '{engine_name}' for the model '{spec.name}'. Engines are: auto, "
            f"{', '.join(ENGINES)}.{nearest(engine_name, ENGINES)}",
            param="engine",
        )
    if spec.task == "moderation" and engine_name in _CLASSES and engine_name != "remote":
        raise InvalidRequest(
            f"No engine here runs models for moderation, so '{spec.name}' must be a provider's, such as "
            "remote://openai/omni-moderation-latest. A chat model judges texts as well, without this task.",
            param="task",
        )
    return engine


def engines_that(ability: type) -> str:
    """The engines that have one of the optional protocols, for a sentence: ``llamacpp, vllm and fake``."""
    names = [engine.name for engine in ENGINES.usable() if isinstance(engine, ability)]
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def _for_files(spec: ModelSpec, path: Path | None) -> str:
    """What takes the files of a model; while they are not here, what will by the look of its name."""
    if path is None:
        return "transformers" if _announced(spec) in _NEVER_LLAMA else "llamacpp"
    folder = any((path / name).is_file() for name in _CONFIGURATIONS)
    return _for_folder(spec, path) if folder else "llamacpp"


def _announced(spec: ModelSpec) -> str:
    """What a model is for, as far as its spec or its name says."""
    if spec.task != "auto":
        return spec.task
    model_profile = profile_of(spec.source)
    return model_profile.task if model_profile is not None else "auto"


def _for_folder(spec: ModelSpec, path: Path) -> str:
    """A server for GPUs where it can run and has what the model is for; transformers for the rest, as `plan` says."""
    if RECIPES["vllm"].unsuited():
        return "transformers"
    if ENGINES["transformers"].describe(_without_parameters(spec), path).task in _OURS:
        return "transformers"
    # psutil is not for the start of the daemon.
    from portico_server.models.hardware import this_machine
    from portico_server.models.plan.planned_parameters import gpu_engine

    return gpu_engine(spec, path, this_machine(), gpu_engines())


def gpu_engines() -> list[PlansGpus]:
    """The engines that serve safetensors on GPUs, the preferred one first. Imports all engines."""
    return [engine for engine in ENGINES.usable() if isinstance(engine, PlansGpus)]


def _without_parameters(spec: ModelSpec) -> ModelSpec:
    """The spec without parameters, which are checked by the engine that is chosen."""
    return replace(spec, parameters={})
