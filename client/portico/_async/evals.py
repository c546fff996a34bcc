"""Evaluations in `portico.AsyncClient`. What each call sends and reads is in `portico._calls.evals`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from portico._async.group import Group
from portico._calls import evals as calls
from portico._calls.knowledge import file_add, file_remove
from portico._follow import Follow
from portico.errors import ConnectionLost, NotFound
from portico.evals import Eval, EvalApplied, EvalOutput, EvalPlan, EvalRun, EvalSearch
from portico.values import Page

PURPOSE = "evals"

Data = Path | str | Sequence[Mapping[str, Any]]
"""Items: a file of JSON lines to upload, the id of an uploaded one, or the items themselves."""


class Evals(Group):
    """Evaluations of models, apps and stores, and searches over their settings."""

    async def create(
        self,
        name: str,
        criteria: Sequence[Mapping[str, Any]],
        *,
        item_schema: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Eval:
        """Make an evaluation: ``criteria`` as OpenAI writes graders, ``item_schema`` the JSON schema of an item."""
        return await self._transport.send(calls.eval_create(name, criteria, item_schema, metadata))

    async def list(self, *, after: str | None = None, limit: int = 20) -> Page[Eval]:
        """One page, newest first; ``after`` is the ``last_id`` of the page before."""
        return await self._transport.send(calls.evals_list(after, limit))

    async def get(self, eval_id: str) -> Eval:
        """One by id. Raises `NotFound`."""
        return await self._transport.send(calls.eval_get(eval_id))

    async def update(
        self, eval_id: str, *, name: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> Eval:
        """Give it another name or other metadata."""
        return await self._transport.send(calls.eval_update(eval_id, name, metadata))

    async def remove(self, eval_id: str) -> None:
        """Forget it with its runs and searches."""
        return await self._transport.send(calls.eval_remove(eval_id))

    # --- runs --------------------------------------------------------------------------------------------------

    async def run(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        *,
        name: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> EvalRun:
        """Begin a run: ``source`` says who is asked and how, such as ``{"model": "default", "messages": [...]}``, or
        ``{"store": "docs", "query": "{{item.question}}"}``. See `wait`.
        """
        given, uploaded = await self._given(data)
        try:
            made = calls.source_of(source, given)
            return await self._transport.send(calls.run_create(eval_id, name, made, metadata))
        finally:
            await self._forget(uploaded)

    async def runs(self, eval_id: str, *, after: str | None = None, limit: int = 20) -> Page[EvalRun]:
        """The runs of an evaluation, newest first, trials of searches among them."""
        return await self._transport.send(calls.runs_list(eval_id, after, limit))

    async def get_run(self, eval_id: str, run_id: str) -> EvalRun:
        """One run. Raises `NotFound`."""
        return await self._transport.send(calls.run_get(eval_id, run_id))

    async def cancel_run(self, eval_id: str, run_id: str) -> EvalRun:
        """End a run; what is done of it stays."""
        return await self._transport.send(calls.run_cancel(eval_id, run_id))

    async def remove_run(self, eval_id: str, run_id: str) -> None:
        """Forget a run with what came of it."""
        return await self._transport.send(calls.run_remove(eval_id, run_id))

    async def outputs(
        self,
        eval_id: str,
        run_id: str,
        *,
        status: str | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Page[EvalOutput]:
        """What became of the items, in their order; ``status``: only those that ``pass``, ``fail`` or ``error``."""
        return await self._transport.send(calls.outputs_list(eval_id, run_id, status, after, limit))

    async def wait(self, run: EvalRun) -> EvalRun:
        """The run as it is when it has ended; through lost connections."""
        await self._ended(run.run_id)
        return await self.get_run(run.eval_id, run.id)

    # --- searches ----------------------------------------------------------------------------------------------

    async def search(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        parameters: Mapping[str, Any],
        **how: Any,
    ) -> EvalSearch:
        """Begin a search: ``parameters`` has lists of values by path, such as ``model``, ``apps.NAME.STEP.system`` or
        ``sampling_params.temperature``. ``how``: ``method`` (``grid`` or ``random``), ``trials``, ``seed``,
        ``objective``, ``direction``, ``halving``, ``name``. See `wait_search`.
        """
        given, uploaded = await self._given(data)
        try:
            wish = {**how, "data_source": calls.source_of(source, given), "parameters": dict(parameters)}
            return await self._transport.send(calls.search_create(eval_id, wish))
        finally:
            await self._forget(uploaded)

    async def plan_search(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        parameters: Mapping[str, Any],
        **how: Any,
    ) -> EvalPlan:
        """What such a search would take, everything about it checked; nothing is asked."""
        given, uploaded = await self._given(data)
        try:
            wish = {**how, "data_source": calls.source_of(source, given), "parameters": dict(parameters)}
            return await self._transport.send(calls.search_plan(eval_id, wish))
        finally:
            await self._forget(uploaded)

    async def searches(self, eval_id: str, *, limit: int = 20) -> Sequence[EvalSearch]:
        """The searches of an evaluation, newest first, without their trials."""
        return await self._transport.send(calls.searches_list(eval_id, limit))

    async def get_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """One search with its trials, the best first. Raises `NotFound`."""
        return await self._transport.send(calls.search_get(eval_id, search_id))

    async def cancel_search(self, eval_id: str, search_id: str) -> EvalSearch:
        """End a search; what is done of it stays."""
        return await self._transport.send(calls.search_cancel(eval_id, search_id))

    async def apply(self, eval_id: str, search_id: str, *, trial: str | None = None) -> EvalApplied:
        """Deploy what the best trial, or another one, changes in apps. Raises `Conflict` if that is nothing."""
        return await self._transport.send(calls.search_apply(eval_id, search_id, trial))

    async def wait_search(self, search: EvalSearch) -> EvalSearch:
        """The search as it is when it has ended; through lost connections."""
        await self._ended(search.run_id)
        return await self.get_search(search.eval_id, search.id)

    async def _given(self, data: Data) -> tuple[dict[str, Any], str | None]:
        """Where the items are, and the file that was uploaded for them: the daemon keeps what it has read of it."""
        if isinstance(data, str):
            return {"type": "file_id", "id": data}, None
        if isinstance(data, Path):
            uploaded = await self._transport.send(file_add(data, None, PURPOSE))
            return {"type": "file_id", "id": uploaded.id}, uploaded.id
        return calls.content_of(data), None

    async def _forget(self, file_id: str | None) -> None:
        if file_id is not None:
            await self._transport.send(file_remove(file_id))

    async def _ended(self, run_id: str) -> None:
        follow = Follow(run_id, 0)
        with suppress(NotFound):  # ended so long ago that its events are forgotten
            while not follow.done:
                try:
                    async for item in self._transport.stream(follow.call()):
                        follow.saw(item)
                except ConnectionLost as error:
                    await self._transport.rest(follow.pause(error))
