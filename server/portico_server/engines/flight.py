"""A call in flight: from the moment an engine has begun to answer until its answer is read or left."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from portico_server.engines.answer import close


class Held:
    """Chunks that count as a call in flight until they end or are closed, even if they were never begun.

    ``leave`` is called once, with the error that ended them or ``None``.
    """

    def __init__(self, chunks: AsyncIterator[bytes], leave: Callable[[BaseException | None], None]) -> None:
        self._chunks = chunks
        self._leave: Callable[[BaseException | None], None] | None = leave

    def __aiter__(self) -> Held:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            self._end(None)
            raise
        except BaseException as error:
            self._end(error)
            raise

    async def aclose(self) -> None:
        try:
            await close(self._chunks)
        finally:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave(error)
