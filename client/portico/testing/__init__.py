"""Unit tests of flows and apps: a daemon in the test's process, with models that answer from a script.

Needs the extra ``server``. Everything except the models is real: the executor, the journal, stores and tools.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from portico._installed import how_to_add
from portico.client import Client
from portico.errors import PorticoError

__all__ = ["daemonless"]

TIMEOUT = 60.0
"""Maximum seconds per call."""


@contextmanager
def daemonless(
    script: Sequence[str | Mapping[str, Any]] = (),
    *,
    models: Mapping[str, Sequence[str | Mapping[str, Any]]] | None = None,
    configuration: Mapping[str, Any] | None = None,
    home: Path | None = None,
) -> Iterator[Client]:
    """Yield a client for a daemon that runs in this process during the ``with`` block. Nothing else can reach the
    daemon.

    ``script`` is the script of the model ``default`` (docs/fake-engine.md): texts with which it answers, one after
    another, or rules with ``match`` and ``content``. Without a script, the model echoes. ``models``: scripts of
    additional models, keyed by name. ``configuration`` is any other content of a YAML file. ``home``: a folder for the
    data. Raises `PorticoError` without the extra ``server``.
    """
    try:
        from portico_server.embedded import embedded
    except ImportError as error:
        raise PorticoError(
            f"portico.testing runs the daemon itself. To install it: {how_to_add('server')}",
            code="extra_missing",
        ) from error
    settings = dict(configuration or {})
    scripted_models = [
        _model("default", script),
        *(_model(name, rules) for name, rules in (models or {}).items()),
    ]
    settings["models"] = [*scripted_models, *settings.get("models", ())]
    with embedded(settings, home) as url, Client(url, timeout=TIMEOUT) as client:
        yield client


def _model(name: str, script: Sequence[str | Mapping[str, Any]]) -> dict[str, Any]:
    """Return the configuration of a model of the fake engine. It answers with the texts in order, then repeats the
    last text.
    """
    if script and all(isinstance(rule, str) for rule in script):
        script = [{"content": list(script)}]
    return {"name": name, "source": "fake://", "parameters": {"script": list(script)}}
