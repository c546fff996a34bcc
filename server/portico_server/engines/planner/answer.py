"""Answers what would run: finds a model's headers and the machine, and hands both to `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import NotFound
from portico_server.engines.gguf import Gguf
from portico_server.engines.hardware import this_machine
from portico_server.engines.llamacpp import beside
from portico_server.engines.llamacpp.beside import Beside
from portico_server.engines.planner import files
from portico_server.engines.planner.plan import Outcome, elsewhere, plan
from portico_server.engines.planner.presets import preset
from portico_server.engines.protocol import Engine, Measures
from portico_server.engines.sources import Fetcher, parse
from portico_server.engines.spec import ModelSpec
from portico_server.settings import Settings


class Planner:
    """Plans for models whose files are here or on a hub; ``choose`` says which engine takes one."""

    def __init__(
        self, fetcher: Fetcher, settings: Settings, choose: Callable[[ModelSpec, Path | None], Engine]
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._choose = choose

    async def plan(
        self, spec: ModelSpec, hardware: str, parameters: Mapping[str, Any], budget: int | None
    ) -> Outcome:
        """See `portico_server.engines.models.Models.plan`."""
        machine = preset(hardware) if hardware else await pools.MODELS.run(this_machine)
        source = parse(spec.source)
        path = self._fetcher.cached(source) if source.fetchable else None
        engine = self._choose(spec, path)
        if not source.fetchable:
            memory = engine.memory(spec, None) if isinstance(engine, Measures) else 0
            reason = (
                "It comes with Portico and takes a process of its own."
                if memory
                else "It answers from another process; nothing of it is held here."
            )
            return elsewhere(spec.name, engine.name, machine, reason, memory)
        engine.describe(replace(spec, parameters=parameters), None)  # refuses parameters it does not have
        if path is not None:
            model = await pools.MODELS.run(files.read, path, spec.name)
        elif source.scheme in ("hf", "modelscope") and not self._settings.offline:
            # aiohttp takes 0.3 s to import.
            from portico_server.engines.planner.peek import peek

            model = await peek(source, spec.name, self._settings)
        else:
            raise NotFound(
                f"The files of '{spec.source}' are not on this machine, so nothing is known of it yet. Fetch them "
                f"first: portico pull {spec.source}",
                code="model_file_missing",
                param="model",
            )
        loaded = Beside()
        if isinstance(model, Gguf) and path is not None:
            loaded = await pools.MODELS.run(beside.find, spec.name, parameters, path, model)
        return plan(
            model, machine, parameters, name=spec.name, budget=budget, engine=spec.engine, beside=loaded
        )
