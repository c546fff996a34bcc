"""`portico.AsyncClient`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import httpx

from portico._answer import AsyncAnswer, Opened
from portico._async.apps import Agents, Apps, Prompts
from portico._async.audio import Audio
from portico._async.batches import Batches
from portico._async.calls.adapters import Adapters
from portico._async.calls.artifacts import Artifacts
from portico._async.calls.canaries import Canaries
from portico._async.calls.cluster import Cluster
from portico._async.calls.daemon import ContentGuards, Plugins
from portico._async.calls.deployments import Deployments
from portico._async.calls.distillations import Distillations
from portico._async.calls.engines import Engines
from portico._async.calls.improvements import Improvements
from portico._async.calls.keys import Keys
from portico._async.calls.schedules import Schedules
from portico._async.containers import Containers
from portico._async.evals import Evals
from portico._async.images import Images
from portico._async.knowledge import Chunkers, Files, Stores
from portico._async.models import Chats, Models
from portico._async.runs import Questions, Runs
from portico._async.sessions import Facts, Sessions
from portico._async.skills import Skills
from portico._async.tools import Mcp, Tools
from portico._async.tuning import Tuning
from portico._async.webhooks import Webhooks
from portico._events import ChatEvents, RunEvents
from portico._keywords import exact_methods, with_options
from portico._request import Message, at, check_path_name, without_none
from portico._running import AsyncRunning
from portico._serving import Given, WorkerState
from portico._step import StepLike
from portico._transport import TIMEOUT_S, Address, AsyncTransport
from portico._worker import AsyncWorker
from portico.errors import InvalidRequest
from portico.flow import Flow, flow_of
from portico.model_options import CHAT_OPTIONS, ChatOptions, flat_options
from portico.schemas.apps import the_only
from portico.schemas.configuration import Applied
from portico.schemas.daemon import BackedUp, Setting, Status, Vacuumed
from portico.schemas.flows import CheckedSpec
from portico.schemas.keys import Whoami
from portico.schemas.models import Embeddings, RankedText, Tokens
from portico.schemas.runs import RunEvent
from portico.schemas.search import Found, Ranker


@exact_methods
class AsyncClient:
    """An asyncio client for a Portico daemon.

    ``url`` defaults to ``PORTICO_URL``, then to the daemon that runs on this user's home folder, then to
    ``http://127.0.0.1:8642``. ``key`` defaults to ``PORTICO_API_KEY``, then to the sign-in that ``portico login``
    created for that daemon. ``timeout`` is the maximum number of seconds without
    data in a call that runs a model. Every call raises a `PorticoError` on failure. Close the client, or use it as a
    context manager. ``transport`` replaces the network, for tests.

    Example::

        import asyncio

        from portico import AsyncClient


        async def main() -> None:
            async with AsyncClient() as client:
                result = await client.search("docs", "Who can reach the daemon?", max_num_results=3)
                print([passage.filename for passage in result.passages])


        asyncio.run(main())
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._transport = AsyncTransport(Address.of(url, key), timeout, transport)
        self.models = Models(self._transport)
        self.chats = Chats(self._transport)
        self.deployments = Deployments(self._transport)
        self.adapters = Adapters(self._transport)
        self.tuning = Tuning(self._transport)
        self.batches = Batches(self._transport)
        self.evals = Evals(self._transport)
        self.images = Images(self._transport)
        self.audio = Audio(self._transport)
        self.engines = Engines(self._transport)
        self.plugins = Plugins(self._transport)
        self.guards = ContentGuards(self._transport)
        self.stores = Stores(self._transport)
        self.files = Files(self._transport)
        self.chunkers = Chunkers(self._transport)
        self.apps = Apps(self._transport)
        self.agents = Agents(self._transport)
        self.sessions = Sessions(self._transport)
        self.facts = Facts(self._transport)
        self.runs = Runs(self._transport)
        self.keys = Keys(self._transport)
        self.tools = Tools(self._transport)
        self.questions = Questions(self._transport)
        self.artifacts = Artifacts(self._transport)
        self.prompts = Prompts(self._transport)
        self.mcp = Mcp(self._transport)
        self.schedules = Schedules(self._transport)
        self.canaries = Canaries(self._transport)
        self.improvements = Improvements(self._transport)
        self.distillations = Distillations(self._transport)
        self.cluster = Cluster(self._transport)
        self.skills = Skills(self._transport)
        self.containers = Containers(self._transport)
        self.webhooks = Webhooks(self._transport)

    @property
    def url(self) -> str:
        """The address of the daemon."""
        return self._transport.address.url

    @with_options(CHAT_OPTIONS)
    def ask(
        self,
        question: str,
        app: str | None = None,
        *,
        history: Sequence[Message] = (),
        **options: Unpack[ChatOptions],
    ) -> AsyncAnswer:
        """Ask an app over documents. Returns an answer with pieces of text and ``passages``.

        Without ``app``, the only app is used. ``history`` contains the previous messages; ``options`` are OpenAI's
        (``temperature``, ``max_tokens`` …).
        """

        async def start(opened: Opened) -> AsyncGenerator[RunEvent, None]:
            name = app or the_only(await self.apps.list())
            path = at("api", "apps", check_path_name(name, "an app"), "run")
            body = {"messages": _messages(question, history), **options}
            source = self._transport.stream("POST", path, RunEvents(), json=body, on_open=opened)
            try:
                async for item in source:
                    yield item
            finally:
                await source.aclose()

        return AsyncAnswer(start)

    @with_options({*CHAT_OPTIONS, "stream"})
    def chat(
        self, messages: str | Sequence[Message], model: str = "default", **options: Unpack[ChatOptions]
    ) -> AsyncAnswer:
        """Chat with a model or an app. ``options`` are OpenAI's (``temperature``, ``tools`` …); options that only some
        models support go into ``extra_body``.
        """

        def start(opened: Opened) -> AsyncGenerator[RunEvent, None]:
            if "stream" in options:
                raise InvalidRequest(
                    "A chat always streams: call read() on it for the whole answer.", param="stream"
                )
            body = {
                "model": model,
                "messages": _messages(messages),
                "stream": True,
                "stream_options": {"include_usage": True},
                **flat_options(options),
            }
            path = "/v1/chat/completions"
            return self._transport.stream("POST", path, ChatEvents(), json=body, on_open=opened)

        return AsyncAnswer(start)

    async def search(
        self,
        store: str | Sequence[str],
        query: str,
        *,
        max_num_results: int = 10,
        filters: Mapping[str, Any] | None = None,
        score_threshold: float | None = None,
        ranker: Ranker | None = None,
        trace: bool = False,
        **options: Any,
    ) -> Found:
        """Search one or several stores, and return ranked passages. See `Stores.search`."""
        return await self.stores.search(
            store,
            query,
            max_num_results=max_num_results,
            filters=filters,
            score_threshold=score_threshold,
            ranker=ranker,
            trace=trace,
            **options,
        )

    async def embed(
        self, texts: str | Sequence[str], model: str = "default-embedding", *, dimensions: int | None = None
    ) -> Embeddings:
        """Return texts as vectors, in order."""
        body = without_none(
            model=model,
            input=[texts] if isinstance(texts, str) else list(texts),
            dimensions=dimensions,
            encoding_format="base64",
        )
        return await self._transport.request("POST", "/v1/embeddings", Embeddings, json=body, slow=True)

    async def rerank(
        self, query: str, documents: Sequence[str], model: str, *, top_n: int | None = None
    ) -> Sequence[RankedText]:
        """Return documents ordered by how well they answer ``query``, best first: all documents, or the best
        ``top_n``.
        """
        body = without_none(model=model, query=query, documents=list(documents), top_n=top_n)
        return await self._transport.request(
            "POST", "/v1/rerank", list[RankedText], json=body, key="results", slow=True
        )

    async def tokenize(
        self,
        text: str | Sequence[Message],
        model: str = "default",
        *,
        add_special_tokens: bool | None = None,
        texts: bool = False,
    ) -> Tokens:
        """Return the tokens of a text, or of a conversation in the format of the model's template. ``texts`` also
        returns the text of each token. Supported for models whose engine has a tokenizer.
        """
        body = without_none(
            model=model,
            **({"prompt": text} if isinstance(text, str) else {"messages": list(text)}),
            add_special_tokens=add_special_tokens,
            return_token_strs=texts or None,
        )
        return await self._transport.request("POST", "/tokenize", Tokens, json=body, slow=True)

    async def detokenize(self, tokens: Sequence[int], model: str = "default") -> str:
        """Return the text of the given tokens."""
        body = {"model": model, "tokens": list(tokens)}
        return await self._transport.request("POST", "/detokenize", str, json=body, slow=True, key="prompt")

    def start(
        self,
        flow: Flow | StepLike | Mapping[str, Any],
        input: Any = None,
        *,
        history: Sequence[Message] = (),
    ) -> AsyncRunning:
        """Start a flow that is not deployed. Iterate over the result for text as it arrives, or read its ``events`` or
        its ``result``.

        The run calls functions in this process back. ``history``: messages before the input.
        """
        new_flow = flow_of(flow)
        body = {"flow": dict(new_flow.spec), "input": input, "history": list(history)}
        functions = {**new_flow.functions, **new_flow.near}
        if functions:
            body["functions"] = sorted(functions)
        return AsyncRunning(self._transport, "/api/flows/run", body, functions)

    async def run(
        self,
        flow: Flow | StepLike | Mapping[str, Any],
        input: Any = None,
        *,
        history: Sequence[Message] = (),
    ) -> Any:
        """Run a flow in the daemon, wait for it to finish, and return its output. See `start`."""
        return await self.start(flow, input, history=history).result()

    async def check(self, flow: Flow | StepLike | Mapping[str, Any]) -> CheckedSpec:
        """Check whether this daemon could run a flow, including every name and reference in it, without running it."""
        body = {"flow": dict(flow_of(flow).spec)}
        return await self._transport.request("POST", "/api/flows/check", CheckedSpec, json=body)

    async def apply(
        self,
        configuration: Mapping[str, Any] | None = None,
        *,
        folder: str = "",
        prune: Sequence[str] = (),
        dry_run: bool = False,
    ) -> Applied:
        """Apply a configuration to the daemon: create and change what differs, and leave the rest unchanged. Without
        ``configuration``, the daemon reads its own configuration file again.

        ``folder``: the base of relative paths in the configuration, on the daemon's machine. ``prune``: kinds
        (``apps``, ``tools`` …) whose entries are removed if the configuration does not name them. ``dry_run`` only
        reports what would change.
        """
        body = {
            "configuration": dict(configuration) if configuration is not None else None,
            "folder": folder,
            "prune": list(prune),
            "dry_run": dry_run,
        }
        return await self._transport.request("POST", "/api/apply", Applied, json=body, slow=True)

    async def health(self) -> dict[str, Any]:
        """Return ``{"status": "ok", "version": …}`` once the daemon serves; needs no key."""
        return await self._transport.request("GET", "/health", dict[str, Any])

    async def status(self) -> Status:
        """Return an overview of the daemon: models, stores, apps, and the runs that it started at startup."""
        return await self._transport.request("GET", "/api/status", Status)

    async def whoami(self) -> Whoami:
        """Return the caller's identity and permissions."""
        return await self._transport.request("GET", "/api/whoami", Whoami)

    async def settings(self) -> list[Setting]:
        """Return every setting and the source of its value."""
        return await self._transport.request("GET", "/api/settings", list[Setting])

    async def usage(self, since: float | None = None) -> list[dict[str, Any]]:
        """Return totals of calls and tokens since a time (seconds since 1970), grouped by ``name``, ``operation`` and
        ``model``.

        ``name`` is the requested name. ``model`` is the model that answered: it differs for an alias or a fallback,
        and is empty for apps and stores.
        """
        query = without_none(since=since)
        return await self._transport.request("GET", "/api/usage", list[dict[str, Any]], query=query)

    async def usage_course(
        self, since: float | None = None, *, step: str = "day", by: str = "model"
    ) -> list[dict[str, Any]]:
        """Return calls, tokens and cost of each ``hour`` or ``day`` since a time, grouped by ``model``, ``key`` or
        ``name``.

        ``at`` is the start of the hour or day. ``series`` and ``name`` identify the series; both are ``None`` for the
        entry that combines the series with few calls.
        """
        query = without_none(since=since, step=step, by=by)
        return await self._transport.request("GET", "/api/usage/course", list[dict[str, Any]], query=query)

    async def backup(
        self, to: Path, *, models: bool = False, told: Callable[[int], None] | None = None
    ) -> BackedUp:
        """Write all data of the daemon to a file while the daemon serves; ``models``: include the model files.

        ``told`` is called with the number of bytes written so far. The file of a failed backup is removed. ``portico
        restore`` reads the file.
        """
        query = {"models": str(models).lower()}
        size, headers = await self._transport.save(
            "GET", "/api/backup", to, query=query, slow=True, private=True, on_progress=told
        )
        return BackedUp(size, int(headers.get("portico-backup-missing", "0")))

    async def vacuum(self) -> Vacuumed:
        """Free unused space in the database file."""
        return await self._transport.request("POST", "/api/vacuum", Vacuumed, slow=True)

    async def shutdown(self) -> None:
        """Ask the daemon to shut down."""
        return await self._transport.request("POST", "/api/shutdown", None)

    async def serve(
        self,
        functions: Sequence[Given],
        *,
        name: str | None = None,
        concurrency: int = 4,
        stop: asyncio.Event | None = None,
        ready: asyncio.Event | None = None,
    ) -> None:
        """Serve functions as tools: called through the daemon, executed in this process, at most ``concurrency`` at a
        time.

        Schemas are derived from signatures and docstrings; `Function.of` adds details to a function. For a flow, all
        of its functions that run in this process are served. ``ready`` is set once the functions are registered as
        tools. Serving ends when ``stop`` is set or on an interrupt, after running calls have finished. If the daemon
        is unreachable, the client waits for it. Raises `Conflict` if a name is in use.
        """
        state = WorkerState(functions, name, concurrency)
        await AsyncWorker(self._transport, state).run(stop, ready)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _messages(content: str | Sequence[Message], history: Sequence[Message] = ()) -> list[dict[str, Any]]:
    """Return the previous messages followed by a question or a whole conversation."""
    messages: Sequence[Message] = (
        [{"role": "user", "content": content}] if isinstance(content, str) else content
    )
    return [dict(message) for message in (*history, *messages)]
