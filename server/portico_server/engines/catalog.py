"""Which engines there are, and which one takes a source."""

from __future__ import annotations

from collections.abc import Mapping

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.engines.fake.engine import Fake
from portico_server.engines.llamacpp.engine import LlamaCpp
from portico_server.engines.protocol import Engine
from portico_server.engines.remote.engine import Remote
from portico_server.engines.spec import ModelSpec
from portico_server.engines.static.engine import Static

ENGINES: Mapping[str, Engine] = {engine.name: engine for engine in (LlamaCpp(), Static(), Remote(), Fake())}

# What is not listed is a file, and files are llama.cpp's.
_BY_SCHEME = {"fake": "fake", "static": "static", "remote": "remote", "http": "remote", "https": "remote"}


def engine_for(spec: ModelSpec) -> Engine:
    """The engine that a spec names, or the one that takes its source.

    Raises `InvalidRequest` with the names.
    """
    scheme, separator, _rest = spec.source.partition("://")
    wanted = spec.engine if spec.engine != "auto" else _BY_SCHEME.get(scheme if separator else "", "llamacpp")
    engine = ENGINES.get(wanted)
    if engine is None:
        raise InvalidRequest(
            f"There is no engine '{wanted}' for the model '{spec.name}'. Engines are: auto, "
            f"{', '.join(ENGINES)}.{nearest(wanted, ENGINES)}",
            param="engine",
        )
    return engine
