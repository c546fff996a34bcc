"""Starts somebody else's server for a folder of safetensors, finds out what it serves, and watches its GPU."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import orjson

from portico.wire import ErrorBody
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable, nearest
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models import gpus
from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.environments.built_environment import find_interpreter, require_built
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.known_models import profile_of
from portico_server.models.openai_wire import EngineRefused, UpstreamFailed
from portico_server.models.protocol import EngineClient, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec, Task
from portico_server.subprocesses import OFFLINE_ENVIRONMENT

if TYPE_CHECKING:
    from portico_server.models.hardware import Gpu, Hardware
    from portico_server.models.transport import EngineRoute, EngineTransport


# Errors of other people's servers in OpenAI's words.


Advice: TypeAlias = Callable[[str], str]
"""From a server's message to a sentence that says what to do here; empty if there is none."""

_TOO_LONG = re.compile(
    r"(?:maximum|max) (?:context|model) (?:length|len)|session.len|context length", re.IGNORECASE
)

_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")


class ErrorTranslator:
    """A `EngineClient` that puts another one's refusals into OpenAI's words."""

    def __init__(self, inner: EngineClient, advice: Advice) -> None:
        self._inner = inner
        self._advice = advice

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        try:
            return await self._inner.relay(request, deadline)
        except EngineRefused as error:
            raise translate_error(error, request, self._advice) from error


def translate_error(error: EngineRefused, request: Relay, advice: Advice) -> EngineRefused:
    """The same refusal with OpenAI's ``type``, ``code`` and ``param``."""
    kind, code, param = error.type, error.code, error.param
    if not _WORD.fullmatch(kind):  # BadRequestError, NotFoundError …
        kind = "rate_limit_error" if error.status == 429 else "invalid_request_error"
    if error.status == 400 and _TOO_LONG.search(error.message):
        code = "context_length_exceeded"
        param = "messages" if request.operation == "chat/completions" else _input_of(request)
    message = " ".join(part for part in (error.message, advice(error.message)) if part)
    return EngineRefused(error.status, ErrorBody(message, kind, code, param), error.retry_after)


def _input_of(request: Relay) -> str:
    return "input" if request.operation == "embeddings" else "prompt"


# An engine that answers but has lost its GPU: found out, and ended, so that the next call starts a new one.


logger = logging.getLogger(__name__)

HEALTH_TIMEOUT_S = 5.0
"""Seconds in which a healthy engine answers."""

_FULL = re.compile(r"out of memory|OutOfMemory", re.IGNORECASE)

_LOST = re.compile(
    r"EngineCore|EngineDead|CUDA error|cudaError|device-side assert|cuBLAS|NCCL|GPU is lost|fallen off the bus",
    re.IGNORECASE,
)


class GpuWatchdog:
    """Wraps an `EngineClient` whose process is ``child``; ``health`` is the path of its health check."""

    def __init__(
        self,
        inner: EngineClient,
        child: ServerProcess,
        transport: EngineTransport,
        health: EngineRoute,
        name: str,
        *,
        reports_lost_gpu: bool = True,
    ) -> None:
        self._inner = inner
        self._reports_lost_gpu = reports_lost_gpu
        self._child = child
        self._transport = transport
        self._health = health
        self._name = name

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        try:
            return await self._inner.relay(request, deadline)
        except (UpstreamFailed, Unavailable) as error:
            full = _FULL.search(error.message) is not None
            lost = full or _LOST.search(error.message) is not None
            if self._reports_lost_gpu and not (lost and isinstance(error, UpstreamFailed)):
                raise
            if not await self._well():
                logger.warning("the engine of %s is ended: %s", self._name, error.message)
                await self._child.kill()
                raise EngineFailed(f"{error.message} The next call restarts it.{_advice(full)}",
                                   code="engine_lost") from error  # fmt: skip
            if full:
                raise EngineFailed(f"{error.message}{_advice(full)}", code="gpu_out_of_memory") from error
            raise

    async def _well(self) -> bool:
        from portico_server.models.transport import CONNECTION_ERRORS

        try:
            await self._transport.get(
                self._health, deadline=asyncio.get_running_loop().time() + HEALTH_TIMEOUT_S
            )
        except (PorticoError, *CONNECTION_ERRORS):
            return False
        return True


def _advice(full: bool) -> str:
    if not full:
        return ""
    return " Give the model a smaller 'context_length', 'max_sequences' or 'memory_share', if this happens again."


@dataclass(frozen=True, slots=True)
class ServerProgram:
    """What to run after the interpreter; ``{host}``, ``{port}`` and ``{key}`` are put in where they stand alone."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    health: str = "/health"
    reports_lost_gpu: bool = True
    """Whether its errors say that it lost its GPU; if not, its health is checked after each."""


MakeClient: TypeAlias = Callable[[ServerProcess, ModelDescription], EngineClient]


def engine_interpreter(engine: str, spec: ModelSpec, site: LaunchContext) -> Path:
    """The parameter ``python``, or the engine's environment. Raises `InvalidRequest`, `Unavailable`."""
    given = spec.parameters.get("python")
    if given is None:
        recipe = RECIPES.get(engine)
        found = require_built(site.environments / engine, recipe) if recipe else find_interpreter(engine)
        if found is None:
            raise Unavailable(
                f"The engine '{engine}' has no environment of Portico's: give '{spec.name}' the parameter 'python' "
                "with the path of an interpreter that has it, or put its command on the PATH of the daemon.",
                code="engine_not_installed",
            )
        return found
    path = Path(str(given)).expanduser()
    if not path.is_absolute() or not path.is_file() or not path.name.startswith("python"):
        raise InvalidRequest(
            f"The parameter 'python' of '{spec.name}' must be the absolute path of an interpreter; there is none "
            f"at {given}.",
            param="parameters.python",
        )
    return path


HOST_BYTES = 4 * 1024**3
"""Memory of the machine that a server and the processes which it starts hold, as far as is known before it ran.

vLLM 0.32 without a GPU and with a model of 0.3 GB: 4.55 GB, of which 4 are for its cache."""


def host_memory(path: Path | None) -> int:
    """Bytes of the machine's memory that a model takes on a server of its own. Blocks."""
    from portico_server.models.hardware import this_machine

    if path is None or any(not gpu.shared for gpu in this_machine().gpus):
        return HOST_BYTES
    return HOST_BYTES + sum(file.stat().st_size for file in path.glob("*.safetensors"))


MAX_CONFIG_BYTES = 1 << 20
"""Size of a model's configuration; those of real ones have some kilobytes."""

MAX_COUNT = 1 << 31
"""Tokens, layers or dimensions above which a configuration is not believed."""


def describe_folder(spec: ModelSpec, path: Path | None) -> ModelDescription:
    """What the profile and the folder's configuration say. Reads small files only."""
    known = profile_of(spec.source)
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
    return ModelDescription(
        task,
        context,
        dimensions if task == "embedding" else None,
        long_prompts=task == "chat",
        thoughts=task == "chat",
    )


def _hears(path: Path | None) -> bool:
    """Whether the folder holds a Whisper, which vLLM serves as such."""
    names = _document(path).get("architectures")
    return isinstance(names, list) and "WhisperForConditionalGeneration" in names


def _configuration(path: Path | None) -> dict[str, int]:
    """The numbers in a model's configuration that can be counts; others say nothing that could be true."""
    found = _document(path)
    inner = found.get("text_config")
    return {
        key: value
        for key, value in (inner if isinstance(inner, dict) else found).items()
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAX_COUNT
    }


def _document(path: Path | None) -> dict[str, Any]:
    """A folder's ``config.json``; empty for one that says nothing: starting it will say what is wrong, the list of
    models must not fail for it.
    """
    if path is None:
        return {}
    try:
        with (path / "config.json").open("rb") as file:
            found = json.loads(file.read(MAX_CONFIG_BYTES + 1)[:MAX_CONFIG_BYTES])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def check_free(
    spec: ModelSpec, machine: Hardware, numbers: Sequence[int], needed: Callable[[Gpu], float]
) -> None:
    """Raise `Unavailable` if other programs hold what the engine needs of a GPU: it would fail after a minute.

    ``numbers`` are those of the GPUs that it may use, ``needed`` returns bytes. Blocks.
    """
    # psutil is imported by now or may be; this module is imported before it.
    from portico_server.models.hardware import free_gpu_memory

    own = [gpu for gpu in machine.gpus if not gpu.shared]
    free = free_gpu_memory() if own else ()
    for number in numbers or range(min(1, len(own))):
        if number >= len(free) or number >= len(own) or free[number] >= needed(own[number]):
            continue
        left, whole = free[number] / gpus.GB, own[number].memory_bytes / gpus.GB
        raise Unavailable(
            f"'{spec.name}' needs {needed(own[number]) / gpus.GB:.1f} GB of GPU {number} ({own[number].name}), which "
            f"has {left:.1f} of {whole:.1f} GB free: other programs hold the rest (nvidia-smi names them). End them, "
            "or give the model a smaller 'memory_share'.",
            code="gpu_memory_in_use",
        )


async def start_server(
    engine: str,
    program: ServerProgram,
    spec: ModelSpec,
    path: Path | None,
    site: LaunchContext,
    *,
    advice: Advice,
    quirks: Quirks,
    enforces: bool = False,
    make_client: MakeClient | None = None,
) -> RunningEngine:
    """Start ``program`` and wait until it answers. ``enforces``: it reads the model's tool calls, and sees to it that
    tools which must be called are; ``make_client`` makes who speaks to it, if bytes cannot just be passed on.

    Raises `PorticoError`; nothing is left behind then or when cancelled.
    """
    # aiohttp is imported by now; this module is imported before it.
    from portico_server.models.engines.openai_client.client import ConstrainedTools
    from portico_server.models.engines.openai_client.passthrough import Passthrough
    from portico_server.models.engines.openai_client.quirks import QuirksClient
    from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute
    from portico_server.models.upstream import Upstream

    assert path is not None
    if not await pools.MODELS.run(path.is_dir):
        raise InvalidRequest(
            f"'{spec.source}' is one file, but the engine '{engine}' takes a folder with safetensors. Use the engine "
            "'llamacpp' for it, or name the repository of the original model.",
            code="model_file_invalid",
            param="source",
        )
    python = await pools.MODELS.run(engine_interpreter, engine, spec, site)
    child = await _child(python, program, spec, site, advice)
    try:
        deadline = asyncio.get_running_loop().time() + site.load_timeout
        listed = await site.transport.get(EngineRoute(child.endpoint(spec.name), "models"), deadline=deadline)
        description = _served(describe_folder(spec, path), orjson.loads(listed))
    except (*CONNECTION_ERRORS, orjson.JSONDecodeError) as error:
        await child.stop()
        raise EngineFailed(f"The engine of '{spec.name}' started but does not answer: {error}.") from error
    except BaseException:
        await child.stop()
        raise
    client: EngineClient
    if make_client is not None:
        client = make_client(child, description)
    else:
        client = Passthrough(Upstream(site.transport, child.endpoint(spec.name), spec.name, child.explain))
        if not enforces:
            client = ConstrainedTools(client, site.transport, child, spec.name, description)
    health = EngineRoute(child.endpoint(spec.name, base=""), program.health.lstrip("/"))
    client = GpuWatchdog(
        client, child, site.transport, health, spec.name, reports_lost_gpu=program.reports_lost_gpu
    )
    client = QuirksClient(ErrorTranslator(client, advice), quirks, spec.name)
    return RunningEngine(client, description, child)


async def _child(
    python: Path, program: ServerProgram, spec: ModelSpec, site: LaunchContext, advice: Advice
) -> ServerProcess:
    try:
        return await ServerProcess.start(
            "portico_server.models.engines.external.supervisor",
            {
                "command": [str(python), *program.arguments],
                "environment": {
                    **OFFLINE_ENVIRONMENT,
                    **program.environment,
                    **gpus.gpu_environment(site.gpus),
                },
                "health": program.health,
            },
            site,
            name=spec.name,
        )
    except EngineFailed as error:
        if not (wise := advice(error.message)):
            raise
        raise EngineFailed(f"{error.message} {wise}", code=error.code) from error


def _served(known: ModelDescription, listed: Any) -> ModelDescription:
    """What the server says about its model, over what its files say."""
    models = listed.get("data") if isinstance(listed, dict) else None
    length = models[0].get("max_model_len") if models else None
    if not isinstance(length, int):
        return known
    return replace(known, context_length=length)


# Parameters of a model as options of a server's command line. Pure.


Kind: TypeAlias = Literal["whole", "number", "share", "text", "flag", "path", "template"]


@dataclass(frozen=True, slots=True)
class ServerOption:
    """``flag`` is how the server calls it; a ``flag`` kind has no value. ``share`` is in (0, 1]."""

    flag: str
    kind: Kind
    doc: str


ServerOptions: TypeAlias = Mapping[str, ServerOption]

TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2", ".json")
"""How files with a chat template are called: any other file is not handed to a server that shows what is in it."""

FREE_ARGUMENTS = frozenset(
    {
        "--all2all-backend",
        "--async-scheduling",
        "--attention-backend",
        "--block-size",
        "--cache-block-seq-len",
        "--chunked-prefill-size",
        "--communicator",
        "--cp",
        "--cpu-offload-gb",
        "--cudagraph-capture-sizes",
        "--disable-custom-all-reduce",
        "--disable-log-stats",
        "--enable-chunked-prefill",
        "--enable-expert-parallel",
        "--enable-metrics",
        "--ep",
        "--kv-cache-memory-bytes",
        "--kv-offloading-size",
        "--limit-mm-per-prompt",
        "--log-level",
        "--long-prefill-token-threshold",
        "--max-concurrent-requests",
        "--max-log-len",
        "--max-logprobs",
        "--max-prefill-iters",
        "--max-prefill-token-num",
        "--mm-processor-cache-gb",
        "--mm-processor-kwargs",
        "--no-enable-chunked-prefill",
        "--no-enable-prefix-caching",
        "--num-gpu-blocks-override",
        "--num-tokens-per-iter",
        "--optimization-level",
        "--override-generation-config",
        "--performance-mode",
        "--rope-scaling-factor",
        "--schedule-policy",
        "--scheduling-policy",
        "--speculative-algorithm",
        "--speculative-num-draft-tokens",
        "--structured-outputs-config",
        "--tool-strict-level",
        "--vision-max-batch-size",
    }
)
"""Options of the servers that the parameter ``arguments`` may hold: they change how a model is computed. All others may
open a port, write or read a file, or load code."""

COMMON_OPTIONS: ServerOptions = {
    "python": ServerOption("", "path", "an interpreter that has the engine, instead of the environment"),
    "arguments": ServerOption("", "text", "further arguments of the server's command line, a list of texts"),
    "fallback": ServerOption("", "text", "names of models that are asked when this one fails"),
}
"""What every such engine takes in addition to its own."""


def advice(message: str, options: ServerOptions) -> str:
    """What the flags that a message of the server speaks of are called here; empty if it speaks of none."""
    sentences = [
        f"'{option.flag}' is the parameter '{key}'"
        for key, option in options.items()
        if re.search(rf"(?<![\w-]){re.escape(option.flag)}(?![\w-])", message)
    ]
    return f"Here {', '.join(sentences)}." if sentences else ""


def option_arguments(
    name: str, engine: str, parameters: Mapping[str, Any], options: ServerOptions
) -> list[str]:
    """The command line for ``parameters``, in the order of ``options``.

    Raises `InvalidRequest` that names the parameter.
    """
    known = {**options, **COMMON_OPTIONS}
    for key in parameters:
        if key not in known:
            raise InvalidRequest(
                f"The engine '{engine}' has no parameter '{key}'.{nearest(key, known)} It has {', '.join(known)}.",
                param=f"parameters.{key}",
            )
    line: list[str] = []
    for key, option in options.items():
        value = parameters.get(key)
        if value is None or value is False:
            continue
        if not _fits(value, option.kind):
            raise InvalidRequest(
                f"The parameter '{key}' of '{name}' must be {_WORDS[option.kind]}, not {value!r}.",
                param=f"parameters.{key}",
            )
        line += [option.flag] if option.kind == "flag" else [option.flag, str(value)]
    more = parameters.get("arguments") or []
    if not isinstance(more, list | tuple) or not all(isinstance(part, str) for part in more):
        raise InvalidRequest(
            f"The parameter 'arguments' of '{name}' must be a list of texts.", param="parameters.arguments"
        )
    for part in more:
        flag = part.partition("=")[0]
        if part.startswith("-") and not _is_number(part) and flag not in FREE_ARGUMENTS:
            raise InvalidRequest(
                f"The parameter 'arguments' of '{name}' has {flag}, which is not one of the options that may be given "
                f"this way: {', '.join(sorted(FREE_ARGUMENTS))}.{nearest(flag, FREE_ARGUMENTS)} To start the server "
                "with other options, start it yourself and add it as http://HOST/v1#MODEL.",
                code="argument_refused",
                param="parameters.arguments",
            )
    return [*line, *more]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


_WORDS: Mapping[Kind, str] = {
    "whole": "a whole number of at least 1",
    "number": "a number of at least 0",
    "share": "a number above 0 and at most 1",
    "text": "a text",
    "flag": "true or false",
    "path": "a path",
    "template": f"the path of a template, which ends in {', '.join(TEMPLATE_SUFFIXES)}",
}


def _fits(value: Any, kind: Kind) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "whole":
            return number and isinstance(value, int) and value >= 1
        case "number":
            return number and value >= 0
        case "share":
            return number and 0 < value <= 1
        case "flag":
            return value is True
    if kind == "template" and not str(value).endswith(TEMPLATE_SUFFIXES):
        return False
    # An option's value must not be taken for another option.
    return isinstance(value, str) and bool(value) and not value.startswith("-")
