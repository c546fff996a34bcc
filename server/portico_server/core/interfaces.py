"""Calling a function that came as source: what apps ask of the light sandbox, put in by the composition root."""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, NotFound, TooLarge
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable

SCOPE: Final = "tools:python_light:call"
"""Code that somebody brings along runs where the tool of that name runs it, so it takes the same right."""


MAX_FORMULA_CHARACTERS: Final = 2_000

_ARITHMETIC: Final = (
    ast.Expression,
    ast.BinOp,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Compare,
    ast.IfExp,
    ast.Constant,
    ast.Name,
    ast.Call,
    ast.Tuple,
    ast.List,
    ast.expr_context,
    ast.boolop,
    ast.operator,
    ast.unaryop,
    ast.cmpop,
)
"""What a formula is made of: no attributes, subscripts, functions or loops of its own."""


def is_formula(text: str) -> bool:
    """Whether an expression is arithmetic alone: numbers, names, operators and calls of functions by their names."""
    if len(text) > MAX_FORMULA_CHARACTERS:
        return False
    try:
        found = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    for node in ast.walk(found):
        if not isinstance(node, _ARITHMETIC):
            return False
        if isinstance(node, ast.Call) and (not isinstance(node.func, ast.Name) or node.keywords):
            return False
        if isinstance(node, ast.Constant) and not isinstance(node.value, bool | int | float):
            return False
    return True


def require_code(caller: Principal, at: str) -> None:
    """Raise `Forbidden` unless ``caller`` may run the code that stands at ``at``."""
    if not caller.allows(SCOPE):
        raise Forbidden(
            f"{at} is code, and this key lacks the scope '{SCOPE}'. Ask the operator for a key that has it.",
            param=at,
        )


class Evaluator(Protocol):
    """An interpreter without files, network or environment."""

    async def evaluate(self, source: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function that ``source`` defines last, or the lambda that it is; its value as JSON.

        Raises `InvalidRequest` with the code ``code_failed`` and Python's own words if it fails.
        """

    async def evaluate_all(
        self, source: str, calls: Sequence[tuple[Sequence[Any], Mapping[str, Any]]]
    ) -> list[Any]:
        """The same for several calls, each with its own arguments; the values in their order.

        They share one interpreter and its limits. Raises if one of them fails, and does not say which.
        """

    async def check(self, source: str) -> None:
        """Raise `InvalidRequest` if ``source`` is not a function, or one that the interpreter can never run."""


# Files that come with a question, for what reads text alone.


class ReadsFiles(Protocol):
    """Reads what messages bring along: `portico_server.knowledge.attachments.AttachmentReader`."""

    async def as_text(
        self,
        messages: Iterable[Mapping[str, Any]],
        caller: Principal,
        *,
        context_length: int | None = None,
    ) -> Sequence[Mapping[str, Any]]:
        """The messages with a text in place of each ``file`` part, for a context of so many tokens.

        Raises `InvalidRequest` for a file that cannot be read or does not fit, `NotFound` for an unknown id.
        """


# Facts that outlive a conversation: what an agent asks of the knowledge, put in by the composition root.


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact in the store ``store`` (its name); ``attributes`` say where it comes from.

    Its ``id`` stays when it is changed; ``created_at`` and ``changed_at`` in seconds since 1970.
    """

    id: str
    store: str
    text: str
    attributes: Mapping[str, str | float | bool]
    created_at: float
    changed_at: float


class FactStore(Protocol):
    """Keeps short texts in a store, where a search finds them. Each belongs to the caller it was kept for."""

    async def add(
        self,
        store: str,
        texts: Sequence[str],
        attributes: Mapping[str, str | float | bool],
        caller: Principal,
    ) -> None:
        """Keep each text as a file of the store; a search sees them a moment later.

        Raises `NotFound` or `Forbidden` if the caller may not write to it.
        """

    async def list(
        self,
        caller: Principal,
        *,
        store: str | None = None,
        where: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Fact]:
        """The caller's own facts, the newest first; of one store, or those with these attributes."""

    async def change(self, fact_id: str, text: str, caller: Principal) -> Fact:
        """Put another text in the place of a fact. Raises `NotFound`."""

    async def remove(self, fact_id: str, caller: Principal) -> None:
        """Forget a fact. Raises `NotFound`."""


# Fetching from the network: what parts that go out ask of the one client that goes nowhere it should not.


@dataclass(frozen=True, slots=True)
class FetchedResponse:
    """An answer whose body is still to come. ``url`` is the last one of a chain of redirects.

    ``headers`` in lower case. ``body`` is what was sent, decompressed, and can be read once, while the answer is open.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    media_type: str
    body: AsyncIterator[bytes]


class FetchSession(Protocol):
    """Some requests that share their connections."""

    def open(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float,
        method: str = "GET",
        signed: bool = False,
        body: bytes | None = None,
    ) -> AbstractAsyncContextManager[FetchedResponse]:
        """Ask for ``url``; ``seconds`` hold over redirects, headers and the body that is read while it is open.

        ``body`` is sent. ``signed``: the URL is sent exactly as it is and no redirect is followed, since a signature is
        for one address.
        Raises `InvalidRequest` for an address that is not allowed, another `PorticoError` if nothing comes.
        """


class Fetcher(Protocol):
    """The client."""

    def session(self, trusted: Collection[str] = ()) -> AbstractAsyncContextManager[FetchSession]:
        """Requests to public addresses, to hosts that the operator allows to be fetched from, and to ``trusted`` ones.

        ``trusted`` as ``NAME:PORT``: what an operator's own setting says.
        """

    def check(self, url: str, *, secure: bool = False) -> None:
        """Raise `InvalidRequest` for an address that will not be asked, as far as its name alone says so.

        ``secure``: only https, except where the operator has named the host.
        """

    async def addresses(self, url: str) -> Sequence[str]:
        """The IP addresses behind ``url``, for a program that asks them itself. Raises as `FetchSession.open`."""


async def read_whole(fetcher: Fetcher, url: str, *, limit: int, seconds: float) -> bytes:
    """All that is at ``url``, at most ``limit`` bytes. Raises as `FetchSession.open`, `TooLarge` and `NotFound`."""
    data = bytearray()
    async with fetcher.session() as session, session.open(url, seconds=seconds) as arrival:
        if arrival.status != 200:
            raise NotFound(f"{url[:200]} answered HTTP {arrival.status}.", code="url_not_found")
        async for block in arrival.body:
            data += block
            if len(data) > limit:
                raise TooLarge(f"What is at {url[:200]} is larger than {limit >> 20} MB.")
    return bytes(data)


# What fine-tuning asks of the engines: a base model's files, this machine, and a place for the result.


OnProgress: TypeAlias = Callable[[int, int | None], Awaitable[None]]
"""Called with the bytes fetched so far and the bytes in all, ``None`` if that is not known."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A model that can be trained. ``path`` is a GGUF file or a folder of safetensors; counts are 0 if unknown.
    The format ``script`` is that of the fake engine, whose training is played.

    ``hidden`` is the width of a hidden state, ``longest`` the tokens the model was made for, ``bytes`` what its
    weights take on disk. A base with an adapter is the base.
    """

    name: str
    path: Path
    format: Literal["gguf", "safetensors", "script"]
    engine: str
    architecture: str
    parameters: int
    layers: int
    hidden: int
    vocabulary: int
    longest: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU with memory of its own. ``capability`` is NVIDIA's compute capability, 0 if not known."""

    name: str
    memory_bytes: int
    capability: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingMachine:
    """Where training would run. ``free_bytes`` is what no process holds of ``memory_bytes`` now."""

    cores: int
    memory_bytes: int
    free_bytes: int
    devices: tuple[Device, ...] = ()


TrainableTask: TypeAlias = Literal["chat", "embedding", "rerank"]
"""What a model is trained for."""


class BaseModels(Protocol):
    """The models of this daemon, as fine-tuning sees them. Names may be aliases; ``task`` is what a model does."""

    async def base(
        self,
        name: str,
        caller: Principal,
        on_progress: OnProgress | None = None,
        *,
        task: TrainableTask = "chat",
    ) -> BaseModel:
        """The model, its files fetched if need be.

        Raises `NotFound`, `InvalidRequest` (``model_not_trainable``) that says which can be trained.
        """

    def check(self, name: str, caller: Principal, *, task: TrainableTask = "chat") -> str:
        """The proper name of a model that can be trained, judged without its files. Raises as `base` does."""

    def tuner(self, name: str) -> HostedTuner | None:
        """What trains a model at its provider; ``None`` for one that is trained here, or is not there."""

    async def publish_hosted(self, name: str, base: str, model: str, owner: str | None) -> None:
        """Serve what the provider of ``base`` made, under its id ``model`` there, as the model ``name``."""

    async def machine(self) -> TrainingMachine:
        """This machine as it is now."""

    async def publish(
        self, name: str, base: str, folder: Path, owner: str | None, *, task: TrainableTask = "chat"
    ) -> None:
        """Serve what was trained as the model ``name`` on the engine of ``base``, also after a restart.

        ``folder`` has a PEFT adapter, which answers beside the base, or a whole model (safetensors, tokenizer), which
        becomes one of its own. A name that is there already, from an attempt that was cut off, is left as it is.
        """

    async def also(self, name: str, target: str) -> None:
        """Let ``name`` mean the model ``target``, too, also after a restart. A name that is taken stays as it is."""


Report: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Told a stage and what continues, in a few words."""


class TrainingEnvironment(Protocol):
    """Where models are trained: an environment with the packages for it, and bases in the form that these take."""

    async def interpreter(self, report: Report) -> Path:
        """The Python that has them; built first if need be. Raises `Unavailable`."""

    async def folder(self, base: BaseModel, python: Path, report: Report) -> Path:
        """A folder of safetensors with tokenizer and chat template; made once of a GGUF file, and kept.

        Raises `InvalidRequest` for a file that cannot be read, `Unavailable` if the disk has no room for it.
        """


class TrialTrainer(Protocol):
    """Fine-tuning, as a search over its settings asks for it. ``body`` is what a job is created with over HTTP."""

    async def check(self, body: Mapping[str, Any], caller: Principal) -> None:
        """Raise `PorticoError` that names what is wrong with ``body``."""

    async def begin(self, body: Mapping[str, Any], search: str, key: str, caller: Principal) -> str:
        """The id of the job for ``body``: a new one, unless this ``search`` already started one under this ``key``."""

    async def trained(self, job_id: str, caller: Principal, on_progress: OnProgress) -> str:
        """The name of the model that a job makes, when it is done. Reports steps. Raises `PorticoError` if it fails."""

    async def stop(self, search: str, caller: Principal) -> None:
        """Cancel the running jobs of a search."""


# An app as it would be with other values in some places: what evaluations ask of deployed apps.


class AppVariants(Protocol):
    """The deployed apps of the daemon, wired in by the composition root."""

    def known(self, caller: Principal) -> Sequence[str]:
        """The names of the apps that the caller may call."""

    async def variant(self, name: str, changes: Mapping[str, Any], caller: Principal) -> Servable:
        """The app with ``changes`` by their places, checked as a whole; what is deployed stays as it is.

        Raises `NotFound` for an app or a place that is not there, `InvalidRequest` for what the app cannot be,
        `Forbidden` where the caller may call the app and not read it.
        """

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Deploy the app with ``changes``; the number of the version. Raises as `variant`, and `Forbidden`."""


# Stores that mirror something: what a schedule asks of the knowledge, put in by the composition root.


class FollowedStores(Protocol):
    """Finds stores by name, and syncs them. What `followed` returns is what `sync` takes."""

    async def followed(self, ref: str, caller: Principal) -> Any:
        """The store that ``caller`` means, to sync it. Raises `PorticoError` if that cannot be."""

    async def sync(self, row: Any) -> str:
        """Queue a look at what a store mirrors; the id of the run."""


# What a store holds, for training on it: put in by the composition root.


@dataclass(frozen=True, slots=True)
class StorePassage:
    """A passage of a store. ``file`` is the name of its file, ``headings`` are those above it, from the outermost."""

    id: int
    file: str
    headings: tuple[str, ...]
    text: str


class ReadableStores(Protocol):
    """Gives out what stores hold, as far as a caller may read it."""

    async def readable(self, ref: str, caller: Principal) -> str:
        """The name that ``caller`` reaches a store by. Raises `NotFound`, `Forbidden`."""

    async def passages(self, ref: str, caller: Principal, limit: int) -> Sequence[StorePassage]:
        """At most ``limit`` passages, of more the same sample each time. Raises as `readable`."""


# Skills: what agents and responses ask of the tools, put in by the composition root.


@dataclass(frozen=True, slots=True)
class SkillText:
    """What a model is told of a skill before it reads it."""

    id: str
    name: str
    description: str


class ContainerPlaces(Protocol):
    """Where code of a response runs, and its files are kept."""

    async def automatic(self, caller: Principal) -> str:
        """The id of a new container. Raises `TooLarge`, `Conflict`."""

    async def skills(self, container_id: str, caller: Principal) -> tuple[SkillText, ...]:
        """The skills that it was made with. Raises `NotFound` for a container that is not there."""


class SkillTexts(Protocol):
    """The skills of the daemon. A name means the caller's own, then a shared one."""

    async def about(self, ref: str, caller: Principal, version: str = "default") -> SkillText:
        """One by name or id, as this version of it describes itself. Raises `NotFound`."""

    async def sent(self, archive: str) -> SkillText:
        """One that came with a request, as base64 of a zip archive. Raises `InvalidRequest`, `TooLarge`."""

    async def text(self, ref: str, caller: Principal, path: str | None) -> str:
        """A file of it as a model reads it, its SKILL.md unless another is named. Raises `NotFound`."""


class LiveJudge(Protocol):
    """Judges answers to live calls by the criteria of an evaluation."""

    async def find(self, ref: str, caller: Principal) -> str:
        """The id of an evaluation of the caller, by its name or id.

        Raises `NotFound`, and `InvalidRequest` for one that needs more than a question and its answer.
        """

    async def judge(
        self, eval_id: str, owner: str, item: Mapping[str, Any], sample: Mapping[str, Any]
    ) -> float:
        """The score of an answer, from 0 to 1, with the rights and at the expense of the key ``owner``.

        Raises `PorticoError` if it cannot be judged.
        """
