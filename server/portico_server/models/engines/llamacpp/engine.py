"""The engine `llamacpp`: a child process that runs llama.cpp's server with one GGUF file."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, cast

import orjson

from portico_server.core import pools
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.models.engines.llamacpp.adapters import start_with, try_adapters
from portico_server.models.engines.llamacpp.kept_prompts import KeptPrompts
from portico_server.models.gguf import Gguf, parts, read_gguf
from portico_server.models.known_models import profile_of
from portico_server.models.plan import llamacpp, llamacpp_options
from portico_server.models.plan import llamacpp as planning
from portico_server.models.protocol import AdapterFormat, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.spec import ModelSpec, Task
from portico_server.models.thoughts import writes_thoughts

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware


class LlamaCpp:
    """An engine for any source that is, or contains, a GGUF file. For the parameters, see
    `portico_server.models.plan.llamacpp`.
    """

    name = "llamacpp"
    fetches = True
    adapter_format: AdapterFormat = "weights"
    tells_tokens = True

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        llamacpp_options.check_options(spec.name, spec.parameters)
        model_profile = profile_of(spec.source)
        context = spec.parameters.get("context_length") or (
            model_profile.context_length if model_profile else None
        )
        dimensions = model_profile.dimensions if model_profile else None
        parameters = model_profile.parameters if model_profile else None
        # A name can suggest a task that no GGUF file has, such as transcription.
        is_named = model_profile is not None and model_profile.task in ("embedding", "rerank")
        task: Task = model_profile.task if model_profile is not None and is_named else "chat"
        thoughts = False
        template = str(spec.parameters.get("chat_template") or "")
        # The profile of a known model with its own template says everything, so a start does not read its header.
        is_known = model_profile is not None and context is not None and spec.task != "auto" and not template
        if path is not None and path.is_file() and not is_known:
            try:
                file = read_gguf(path)
            except PorticoError:
                # Starting the model reports problems of the file. The list of models must not fail because of
                # them.
                return ModelDescription(_task(spec) or task, context, dimensions)
            task = _task_of(file)
            context, dimensions = context or file.context_length or None, file.embedding_length or dimensions
            parameters = file.parameters
            thoughts = _thinks(file, template)
        task = _task(spec) or task
        return ModelDescription(
            task,
            context,
            dimensions if task == "embedding" else None,
            parameters,
            thoughts=task == "chat" and thoughts,
        )

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        # Imported here because it imports psutil, which must not be loaded before a model is used.
        from portico_server.models.hardware import this_machine

        if path is None or not path.is_file():
            return 0
        try:
            file = read_gguf(path)
            cpp_plan = _plan_for(spec, path, file, this_machine())
        except PorticoError:
            return 0  # `start` reports the problem of the file
        return planning.memory_need(_entire(file, path), cpp_plan).total

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        # Imported here because it imports aiohttp, which must not be loaded before a model is used.
        from portico_server.models.engines.llamacpp.client import LlamaCppClient, LlamaTokenizer
        from portico_server.models.engines.openai_client.client import ServerFacts
        from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute

        assert path is not None
        if not await pools.MODELS.run(path.is_file):
            raise InvalidRequest(
                f"'{spec.source}' is not a single GGUF file, which the engine 'llamacpp' needs. Name a file "
                "in the repository: hf://ORG/REPO/FILE.gguf.",
                code="not_gguf",
                param="source",
            )
        file = await pools.MODELS.run(read_gguf, path)
        if file.truncated:
            raise InvalidRequest(
                f"The model file {path} is truncated: it has {file.file_size} of {file.end_offset} bytes. "
                "Delete the file and download it again.",
                code="model_file_truncated",
                param="source",
            )
        task = _task(spec) or _task_of(file)
        machine = await pools.MODELS.run(site.machine)
        cpp_plan = await pools.MODELS.run(_plan_for, spec, path, file, machine)
        prompts = await pools.MODELS.run(_kept_prompts, file, path, cpp_plan, site)
        child, adapters = await start_with(
            {
                "model": str(path),
                "name": spec.name,
                "plan": asdict(cpp_plan),
                "prompts": str(prompts.folder) if prompts is not None else "",
            },
            path,
            spec.name,
            site,
        )
        try:
            deadline = asyncio.get_running_loop().time() + site.load_timeout
            props = orjson.loads(
                await site.transport.get(
                    EngineRoute(child.endpoint(spec.name, base=""), "props"), deadline=deadline
                )
            )
            facts = ServerFacts.read(props, file.vocabulary or None, makes_grammars=True)
        except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
            await child.stop()
            raise EngineFailed(
                f"The engine of '{spec.name}' started but does not respond: {error}."
            ) from error
        except BaseException:
            await child.stop()
            raise
        description = (
            ModelDescription("embedding", facts.context_length, file.embedding_length)
            if task == "embedding"
            else ModelDescription(
                task,
                facts.context_length,
                parameters=file.parameters,
                vision=facts.sees,
                thoughts=task == "chat" and _thinks(file, cpp_plan.chat_template),
            )
        )
        client = LlamaCppClient(
            site.transport,
            child,
            spec.name,
            facts,
            description,
            adapters,
            slots=cpp_plan.slots,
            continues=keeps_all_positions(file) and not facts.sees,
            prompts=prompts,
        )
        tokenizer = LlamaTokenizer(
            site.transport,
            child,
            spec.name,
            facts,
        )
        return RunningEngine(client, description, child, tokenizer)

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """See `portico_server.models.protocol.TriesAdapters`."""
        assert path is not None
        await try_adapters(spec, path, adapter, site)


_FORGETFUL = (
    "attention.sliding_window",
    "attention.chunk_size",
    "full_attention_interval",
    "shortconv.l_cache",
    "ssm.state_size",
    "wkv.head_size",
)
"""Keys in the header of models in which certain layers do not keep all positions."""


def keeps_all_positions(file: Gguf) -> bool:
    """Return whether the cache can be resumed at any position.

    This is not possible for a model with a sliding window or a recurrent state: llama.cpp keeps a copy of the state
    for each prefix to which it may have to return.
    """
    return not any(file.values.get(f"{file.architecture}.{key}") for key in _FORGETFUL)


NOT_OF_PROMPTS = ("threads", "slots", "gpu_layers", "prompts_mb", "chat_template")
"""Fields of a plan that do not change the result of reading a prompt."""


def _kept_prompts(
    file: Gguf, path: Path, cpp_plan: planning.LlamaCppPlan, site: LaunchContext
) -> KeptPrompts | None:
    """Return the store for the kept prompts of a model, or ``None`` if llama.cpp cannot restore prompts of this model.
    Blocks.
    """
    if site.prompts is None or cpp_plan.embedding or cpp_plan.projector or cpp_plan.draft:
        return None
    if not keeps_all_positions(file):
        return None
    plan = {key: value for key, value in asdict(cpp_plan).items() if key not in NOT_OF_PROMPTS}
    file_state = path.stat()
    identity = (str(path.resolve()), file_state.st_size, file_state.st_mtime_ns, version("xllamacpp"), plan)
    return KeptPrompts.open(site.prompts, identity, site.prompts_bytes)


def _plan_for(spec: ModelSpec, path: Path, file: Gguf, machine: Hardware) -> planning.LlamaCppPlan:
    """Return the plan for a file on a machine. Blocks. Raise `InvalidRequest` if additional files, such as a
    projector, do not fit the model.
    """
    file = _entire(file, path)
    task = _task(spec) or _task_of(file)
    companion_files = llamacpp.find_companions(spec.name, spec.parameters, path, file)
    cpp_plan = planning.plan_gguf(
        file, machine, spec.parameters, embedding=task != "chat", beside=companion_files
    )
    return replace(cpp_plan, pooling=planning.RANK_POOLING) if task == "rerank" else cpp_plan


def _entire(file: Gguf, path: Path) -> Gguf:
    """Return the header. If the model is split into several files, its size is that of all files."""
    if file.split_count == 1:
        return file
    return replace(file, file_size=sum(part.stat().st_size for part in parts(path) if part.is_file()))


def _thinks(file: Gguf, template: str) -> bool:
    """Return whether the template, or the model's own if ``template`` is empty, supports reasoning."""
    return writes_thoughts(template or str(file.values.get("tokenizer.chat_template", "")))


def _task(spec: ModelSpec) -> Task | None:
    """Return the task that the spec names, if any."""
    return cast("Task", spec.task) if spec.task != "auto" else None


def _task_of(file: Gguf) -> Task:
    if planning.is_reranker(file):
        return "rerank"
    return "embedding" if planning.is_embedding_model(file) else "chat"
