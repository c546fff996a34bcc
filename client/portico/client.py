"""`Client` and `AsyncClient`: everything a daemon offers, blocking or for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from types import TracebackType
from typing import Any

import httpx

from portico import _async, _sync
from portico import _requests as build
from portico._answer import Answer, AsyncAnswer, Opened
from portico._requests import Message
from portico._transport import TIMEOUT, Address, AsyncTransport, Transport
from portico.values import Embeddings, Found, Ranker, RunEvent, Setting, Status


class Client:
    """A daemon, from code that blocks.

    ``url`` defaults to ``PORTICO_URL``, then ``http://127.0.0.1:8642``; ``key`` to ``PORTICO_API_KEY``.
    ``timeout`` is how many seconds a call with a model behind it may stay silent. Every call raises a
    `PorticoError`. Close it, or use it as a context manager. ``transport`` replaces the network, for tests.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(Address.of(url, key), timeout, transport)
        self.models = _sync.Models(self._transport)
        self.deployments = _sync.Deployments(self._transport)
        self.engines = _sync.Engines(self._transport)
        self.stores = _sync.Stores(self._transport)
        self.files = _sync.Files(self._transport)
        self.chunkers = _sync.Chunkers(self._transport)
        self.apps = _sync.Apps(self._transport)
        self.runs = _sync.Runs(self._transport)
        self.keys = _sync.Keys(self._transport)
        self.tools = _sync.Tools(self._transport)
        self.artifacts = _sync.Artifacts(self._transport)
        self.mcp = _sync.Mcp(self._transport)

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._transport.address.url

    def ask(
        self, question: str, app: str | None = None, *, history: Sequence[Message] = (), **options: Any
    ) -> Answer:
        """Ask an app over documents: pieces of text, and ``passages``. Without ``app``: the only one.

        ``history`` is what was said before; ``options`` are OpenAI's (``temperature``, ``max_tokens`` …).
        """

        def start(opened: Opened) -> Generator[RunEvent, None, None]:
            name = app or build.the_only(self.apps.list())
            return self._transport.stream(build.app_run(name, question, history, options), opened)

        return Answer(start)

    def chat(self, messages: str | Sequence[Message], model: str = "default", **options: Any) -> Answer:
        """Talk to a model or an app. ``options`` are OpenAI's (``temperature``, ``tools`` …)."""
        return Answer(lambda opened: self._transport.stream(build.chat(messages, model, options), opened))

    def search(
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
        """`Stores.search`: ranked passages of one store, or of several."""
        return self._transport.send(
            build.search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    def embed(
        self, texts: str | Sequence[str], model: str = "default-embedding", *, dimensions: int | None = None
    ) -> Embeddings:
        """Texts as vectors, in order."""
        return self._transport.send(build.embed(texts, model, dimensions))

    def health(self) -> dict[str, Any]:
        """``{"status": "ok", "version": …}`` as soon as the daemon serves; needs no key."""
        return self._transport.send(build.health())

    def status(self) -> Status:
        """The daemon at a glance: models, stores, apps, and the runs that its start began."""
        return self._transport.send(build.status())

    def settings(self) -> list[Setting]:
        """Every setting and where its value came from."""
        return self._transport.send(build.settings())

    def usage(self, since: float | None = None) -> list[dict[str, Any]]:
        """Totals of calls and tokens since a moment (seconds since 1970)."""
        return self._transport.send(build.usage(since))

    def shutdown(self) -> None:
        """Ask the daemon to end."""
        return self._transport.send(build.shutdown())

    def close(self) -> None:
        """Give the connections back."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio; see `Client`."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._transport = AsyncTransport(Address.of(url, key), timeout, transport)
        self.models = _async.Models(self._transport)
        self.deployments = _async.Deployments(self._transport)
        self.engines = _async.Engines(self._transport)
        self.stores = _async.Stores(self._transport)
        self.files = _async.Files(self._transport)
        self.chunkers = _async.Chunkers(self._transport)
        self.apps = _async.Apps(self._transport)
        self.runs = _async.Runs(self._transport)
        self.keys = _async.Keys(self._transport)
        self.tools = _async.Tools(self._transport)
        self.artifacts = _async.Artifacts(self._transport)
        self.mcp = _async.Mcp(self._transport)

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._transport.address.url

    def ask(
        self, question: str, app: str | None = None, *, history: Sequence[Message] = (), **options: Any
    ) -> AsyncAnswer:
        """Ask an app over documents: pieces of text, and ``passages``. Without ``app``: the only one.

        ``history`` is what was said before; ``options`` are OpenAI's (``temperature``, ``max_tokens`` …).
        """

        async def start(opened: Opened) -> AsyncGenerator[RunEvent, None]:
            name = app or build.the_only(await self.apps.list())
            source = self._transport.stream(build.app_run(name, question, history, options), opened)
            try:
                async for item in source:
                    yield item
            finally:
                await source.aclose()

        return AsyncAnswer(start)

    def chat(self, messages: str | Sequence[Message], model: str = "default", **options: Any) -> AsyncAnswer:
        """Talk to a model or an app. ``options`` are OpenAI's (``temperature``, ``tools`` …)."""
        return AsyncAnswer(
            lambda opened: self._transport.stream(build.chat(messages, model, options), opened)
        )

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
        """`Stores.search`: ranked passages of one store, or of several."""
        return await self._transport.send(
            build.search(store, query, max_num_results, filters, score_threshold, ranker, trace, options)
        )

    async def embed(
        self, texts: str | Sequence[str], model: str = "default-embedding", *, dimensions: int | None = None
    ) -> Embeddings:
        """Texts as vectors, in order."""
        return await self._transport.send(build.embed(texts, model, dimensions))

    async def health(self) -> dict[str, Any]:
        """``{"status": "ok", "version": …}`` as soon as the daemon serves; needs no key."""
        return await self._transport.send(build.health())

    async def status(self) -> Status:
        """The daemon at a glance: models, stores, apps, and the runs that its start began."""
        return await self._transport.send(build.status())

    async def settings(self) -> list[Setting]:
        """Every setting and where its value came from."""
        return await self._transport.send(build.settings())

    async def usage(self, since: float | None = None) -> list[dict[str, Any]]:
        """Totals of calls and tokens since a moment (seconds since 1970)."""
        return await self._transport.send(build.usage(since))

    async def shutdown(self) -> None:
        """Ask the daemon to end."""
        return await self._transport.send(build.shutdown())

    async def close(self) -> None:
        """Give the connections back."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
