"""A folder of safetensors on transformers, in a small worker of our own: one call at a time, on CPU or GPU.

The worker answers as llama.cpp's server does, so that its speaker makes tools, schemas and several choices of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import orjson

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.engines import gpus
from portico_server.engines.child import Child
from portico_server.engines.fallback import fallbacks
from portico_server.engines.gpus import NO_SHARE, Share
from portico_server.engines.guest import adapters as folder_adapters
from portico_server.engines.guest import guest
from portico_server.engines.guest.options import Option, Options, arguments
from portico_server.engines.guest.quiet import QUIET
from portico_server.engines.profiles import profile
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.spec import ModelSpec, Task
from portico_server.engines.transformers.package import WORKER
from portico_server.engines.transformers.worker import folder as folders
from portico_server.engines.transformers.worker.refusal import Unfit
from portico_server.subprocesses import module

if TYPE_CHECKING:
    from portico_server.engines.planner.transformers import Settled

OPTIONS: Options = {
    "context_length": Option("--context-length", "whole", "tokens that one call may have"),
    "device": Option("--device", "text", "cpu, cuda, cuda:1 or mps, instead of the best there is"),
    "dtype": Option("--dtype", "text", "float32, bfloat16 or float16"),
    "threads": Option("--threads", "whole", "threads on the CPU"),
    "pooling": Option("--pooling", "text", "mean, cls, last or max, instead of what an embedding model says"),
    "max_seconds": Option(
        "--max-seconds", "number", "longest recording that is taken (7200), or music that is made (30)"
    ),
    "max_pixels": Option(
        "--max-pixels", "whole", "width times height of the largest picture that is drawn (4194304)"
    ),
    "chat_template": Option("--chat-template", "path", "a Jinja file instead of the model's own template"),
}
"""Parameters of a model on transformers."""


class Transformers:
    """A folder with safetensors. Parameters: `OPTIONS`."""

    name = "transformers"
    fetches = True

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        arguments(spec.name, self.name, spec.parameters, OPTIONS)
        fallbacks(spec)
        known = profile(spec.source)
        task, context, dimensions = (
            (known.task, known.context_length, known.dimensions) if known else (None,) * 3
        )
        mean = edits = False
        if path is not None and path.is_dir():
            try:
                found = folders.read(path)
                mean = found.task == "embedding" and folders.pools_by_mean(path)
            except Unfit:
                pass  # starting it says what is wrong; the list of models must not fail for it
            else:
                task, context = cast("Task", found.task), found.context_length or context
                edits = found.changes
                dimensions = found.hidden_size or dimensions
        task = cast("Task", spec.task) if spec.task != "auto" else task or "chat"
        context = spec.parameters.get("context_length") or context
        if task == "image":
            return Description(task, edits=edits)
        if task != "embedding":
            return Description(task, context)
        pooling = spec.parameters.get("pooling")
        return Description(task, context, dimensions, spans=pooling == "mean" if pooling else mean)

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        settled = _settled(spec, path)
        return settled.memory if settled is not None else 0

    def occupies(self, spec: ModelSpec, path: Path | None) -> Share:
        """See `portico_server.engines.protocol.Occupies`. A GPU that the spec names by its number is its own affair."""
        settled = _settled(spec, path)
        if settled is None or settled.device == "cpu" or settled.shared or ":" in _device(spec):
            return NO_SHARE
        return Share(1, settled.total)

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # aiohttp is imported by now; this module is imported before it.
        from portico_server.engines.tokens import VllmTokenizer
        from portico_server.engines.transformers.speaker import speaker
        from portico_server.engines.transport import CONNECTION_ERRORS, Route

        assert path is not None
        await pools.MODELS.run(_check, spec, path)
        python = await pools.MODELS.run(guest.interpreter, self.name, spec, site)
        settled = await pools.MODELS.run(_settled, spec, path)
        if settled is not None:
            spec = replace(spec, parameters={**settled.parameters, **spec.parameters})
        child = await Child.start(
            "portico_server.engines.guest.warden",
            {
                "command": [str(python), *_command(spec, path)],
                "environment": {
                    **QUIET,
                    "PYTHONPATH": str(Path(__file__).parent),
                    "WORKER_KEY": "{key}",
                    **gpus.environment(site.gpus),
                },
                "health": "/health",
            },
            name=spec.name,
            log=site.log,
            timeout=site.load_timeout,
            report=site.report,
        )
        try:
            deadline = asyncio.get_running_loop().time() + site.load_timeout
            route = Route(child.endpoint(spec.name, base=""), "props")
            props = orjson.loads(await site.transport.get(route, deadline=deadline))
            description = replace(
                self.describe(spec, path),
                context_length=props["default_generation_settings"]["n_ctx"] or None,
                dimensions=props["dimensions"] or None,
                parameters=props["parameters"],
                edits=props["edits"],
                voices=tuple(props.get("voices") or ()),
            )
            made = speaker(site.transport, child, spec.name, props, description)
            for adapter in site.adapters:
                await made.attach_or_log(adapter)
        except (*CONNECTION_ERRORS, orjson.JSONDecodeError, KeyError) as error:
            await child.stop()
            raise EngineFailed(
                f"The engine of '{spec.name}' started but does not answer: {error}."
            ) from error
        except BaseException:
            await child.stop()
            raise
        tokenizer = VllmTokenizer(site.transport, child, spec.name, description.context_length)
        reads = description.task in ("chat", "embedding")
        return Running(made, description, child, tokenizer if reads else None)

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: Site
    ) -> None:
        """See `portico_server.engines.protocol.Adapts`. Names and shapes are compared; nothing is started for it."""
        await pools.MODELS.run(folder_adapters.check, self.name, adapter, path, patterns=True)


def _device(spec: ModelSpec) -> str:
    return str(spec.parameters.get("device", ""))


def _command(spec: ModelSpec, path: Path) -> list[str]:
    line = module(WORKER, "serve", "--model", str(path), "--name", spec.name, "--port", "{port}")
    return [*line, "--task", spec.task, *arguments(spec.name, "transformers", spec.parameters, OPTIONS)]


def _check(spec: ModelSpec, path: Path) -> None:
    """What can be said against a folder without loading it. Raises `InvalidRequest`. Blocks."""
    if not path.is_dir():
        raise InvalidRequest(
            f"'{spec.source}' is one file, but the engine 'transformers' takes a folder with safetensors. Use the "
            "engine 'llamacpp' for it, or name the repository of the original model.",
            code="model_file_invalid",
            param="source",
        )
    try:
        folders.read(path)
        folders.check_weights(path)
    except Unfit as error:
        raise InvalidRequest(str(error), code="model_file_invalid", param="source") from error


def _settled(spec: ModelSpec, path: Path | None) -> Settled | None:
    """The plan for this machine, as far as the files say enough. Blocks."""
    # psutil is imported by now or may be; this module is imported before it.
    from portico_server.engines.hardware import this_machine
    from portico_server.engines.planner import files
    from portico_server.engines.planner.facts import Weights
    from portico_server.engines.planner.transformers import settle

    if path is None or not path.is_dir():
        return None
    try:
        model = files.read(path, spec.name)
    except InvalidRequest:
        return None  # an architecture that the planner does not know; starting it will show
    return settle(model, this_machine(), spec.parameters) if isinstance(model, Weights) else None
