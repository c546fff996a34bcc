"""Which engines there are, and which one takes a source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.engines.environments.recipe import RECIPES
from portico_server.engines.fake.engine import Fake
from portico_server.engines.llamacpp.engine import LlamaCpp
from portico_server.engines.lmdeploy.engine import LmDeploy
from portico_server.engines.protocol import Engine
from portico_server.engines.remote.engine import Remote
from portico_server.engines.spec import ModelSpec
from portico_server.engines.static.engine import Static
from portico_server.engines.transformers.engine import Transformers
from portico_server.engines.vllm.engine import Vllm

ENGINES: Mapping[str, Engine] = {
    engine.name: engine
    for engine in (LlamaCpp(), Vllm(), LmDeploy(), Transformers(), Static(), Remote(), Fake())
}

# What is not listed is a file: GGUF is llama.cpp's, a folder with safetensors vLLM's or that of transformers.
_BY_SCHEME = {"fake": "fake", "static": "static", "remote": "remote", "http": "remote", "https": "remote"}


def engine_for(spec: ModelSpec, path: Path | None = None) -> Engine:
    """The engine that a spec names, or the one that takes its source; ``path`` if its files are here.

    Raises `InvalidRequest` with the names.
    """
    scheme, separator, _rest = spec.source.partition("://")
    wanted = spec.engine
    if wanted == "auto":
        folder = path is not None and (path / "config.json").is_file()
        files = _for_folder(spec, path) if folder else "llamacpp"
        wanted = _BY_SCHEME.get(scheme if separator else "", files)
    engine = ENGINES.get(wanted)
    if engine is None:
        raise InvalidRequest(
            f"There is no engine '{wanted}' for the model '{spec.name}'. Engines are: auto, "
            f"{', '.join(ENGINES)}.{nearest(wanted, ENGINES)}",
            param="engine",
        )
    return engine


def _for_folder(spec: ModelSpec, path: Path | None) -> str:
    """vLLM where it can run and has what the model is for; transformers for the rest, as `plan` says."""
    if RECIPES["vllm"].unsuited():
        return "transformers"
    return "transformers" if ENGINES["transformers"].describe(_bare(spec), path).task == "rerank" else "vllm"


def _bare(spec: ModelSpec) -> ModelSpec:
    """The spec without parameters, which are checked by the engine that is chosen."""
    return replace(spec, parameters={})
