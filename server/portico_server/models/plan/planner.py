"""Plans a model for this machine or a preset: reads the headers of its files and passes them to `choice`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico_server.core import pools
from portico_server.core.errors import NotFound
from portico_server.models.gguf import Gguf
from portico_server.models.hardware import Hardware, this_machine
from portico_server.models.plan import llamacpp, weight_files
from portico_server.models.plan.choice import needs_gpu_server, plan_model, plan_other_engines
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.machines import machine_preset
from portico_server.models.plan.outcome import PlanOutcome
from portico_server.models.plan.planned_parameters import takes
from portico_server.models.plan.remote_weights import read_remote_weights
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import Engine, MeasuresMemory, PlansGpus
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.spec import ModelSpec
from portico_server.settings import Settings


class Planner:
    """A planner for models with local files or on a hub.

    ``choose`` returns a model's engine; ``gpu_engines`` are the engines that serve safetensors on GPUs.
    """

    def __init__(
        self,
        fetcher: ModelFetcher,
        settings: Settings,
        choose: Callable[[ModelSpec, Path | None], Engine],
        gpu_engines: Callable[[], Sequence[PlansGpus]],
    ) -> None:
        self._fetcher = fetcher
        self._settings = settings
        self._choose = choose
        self._gpu_engines = gpu_engines

    async def plan(
        self, spec: ModelSpec, hardware: str, parameters: Mapping[str, Any], budget: int | None
    ) -> PlanOutcome:
        """See `portico_server.models.service.ModelService.plan`."""
        machine = machine_preset(hardware) if hardware else await pools.MODELS.run(this_machine)
        source = parse_source(spec.source)
        spec = replace(spec, parameters=parameters)
        path = self._fetcher.find_cached(source) if source.fetchable else None
        engine = self._choose(spec, path)
        if not source.fetchable:
            memory = engine.memory(spec, None) if isinstance(engine, MeasuresMemory) else 0
            reason = (
                "It is included in Portico and runs in a separate process."
                if memory
                else "It runs elsewhere and uses no memory of this machine."
            )
            return plan_other_engines(spec.name, engine.name, machine, reason, memory)
        if path is not None:
            model = await pools.MODELS.run(weight_files.read_weights, path, spec.name)
        elif source.scheme in ("hf", "modelscope") and not self._settings.offline:
            model = await read_remote_weights(source, spec.name, self._settings)
        else:
            raise NotFound(
                f"The files of '{spec.source}' are not on this machine, so its requirements are unknown. "
                f"Fetch them first: portico pull {spec.source}",
                code="model_file_missing",
                param="model",
            )
        return await pools.MODELS.run(self._planned, model, spec, path, machine, budget)

    def _planned(
        self,
        model: Gguf | ModelWeights,
        spec: ModelSpec,
        path: Path | None,
        machine: Hardware,
        budget: int | None,
    ) -> PlanOutcome:
        """Return the plan for a model whose headers have been read. Blocks. Engines reject parameters that they do not
        know.
        """
        if isinstance(model, Gguf):
            self._choose(spec, path).describe(spec, None)
            companion_files = CompanionFiles()
            if path is not None:
                companion_files = llamacpp.find_companions(spec.name, spec.parameters, path, model)
            return plan_model(
                model,
                machine,
                spec.parameters,
                name=spec.name,
                budget=budget,
                beside=companion_files,
                servers={},
            )
        engines = {engine.name: engine for engine in self._gpu_engines()}
        fitting = {name: engine for name, engine in engines.items() if takes(engine, spec, path)}
        if spec.engine == "auto" and fitting:
            engines = fitting
        elif spec.engine in (*engines, "auto"):
            usual_engine = next(iter(engines)) if needs_gpu_server(model, machine) else "transformers"
            engine_name = usual_engine if spec.engine == "auto" else spec.engine
            self._choose(replace(spec, engine=engine_name), path).describe(spec, None)
        plan_outcome = plan_model(
            model,
            machine,
            spec.parameters,
            name=spec.name,
            budget=budget,
            engine=spec.engine,
            servers={name: engine.gpu_traits for name, engine in engines.items()},
        )
        self._choose(replace(spec, engine=plan_outcome.engine), path).describe(spec, None)
        return plan_outcome
