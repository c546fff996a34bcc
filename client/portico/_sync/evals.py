# Generated from portico._async by scripts/sdk: change it there.
"""Evaluations, their runs, and searches over settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from portico._read import Page
from portico._request import at, check_path_name, without_none
from portico._sync.calls import evals as calls_evals
from portico._sync.knowledge import Files
from portico._sync.runs import Runs
from portico.errors import NotFound
from portico.schemas.evals import Eval, EvalPlan, EvalRun, EvalSearch

PURPOSE = "evals"

ANYTHING: Mapping[str, Any] = {"type": "object"}
"""The schema of items that can be arbitrary objects."""

Data = Path | str | EvalRun | Sequence[Mapping[str, Any]]
"""Items: a JSON Lines file to upload, the id of an uploaded file, an earlier run of the same evaluation (its items are
used again), or the items themselves.
"""


class Evals(calls_evals.Evals):
    """Evaluations of models, apps and stores, and searches over their settings."""

    def create(
        self,
        name: str,
        criteria: Sequence[Mapping[str, Any]],
        *,
        item_schema: Mapping[str, Any] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Eval:
        """Create an evaluation: ``criteria`` are graders in OpenAI's format, ``item_schema`` is the JSON schema of one
        item.
        """
        config = {
            "type": "custom",
            "item_schema": dict(item_schema or ANYTHING),
            "include_sample_schema": True,
        }
        body = without_none(
            name=name,
            data_source_config=config,
            testing_criteria=list(criteria),
            metadata=metadata or None,
        )
        return self._transport.request("POST", "/v1/evals", Eval, json=body)

    def list(self, *, after: str | None = None, limit: int = 20) -> Page[Eval]:
        """Return a page of evaluations, newest first; ``after`` is the ``last_id`` of the previous page."""
        query = without_none(after=after, limit=limit, order="desc")
        return self._transport.request("GET", "/v1/evals", Page[Eval], query=query)

    def run(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        *,
        name: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> EvalRun:
        """Start a run. ``source`` defines what is evaluated and the request, such as ``{"model": "default",
        "messages": [...]}``, or ``{"store": "docs", "query": "{{item.question}}"}``. See `wait`.
        """
        path = self._at(eval_id, "runs")
        items, uploaded_id = self._items(data)
        try:
            body = without_none(name=name, data_source=_source(source, items), metadata=metadata or None)
            return self._transport.request("POST", path, EvalRun, json=body, slow=True)
        finally:
            self._forget(uploaded_id)

    def runs(self, eval_id: str, *, after: str | None = None, limit: int = 20) -> Page[EvalRun]:
        """List the runs of an evaluation, newest first, including the trials of searches."""
        query = without_none(after=after, limit=limit, order="desc")
        return self._transport.request("GET", self._at(eval_id, "runs"), Page[EvalRun], query=query)

    def wait(self, run: EvalRun) -> EvalRun:
        """Wait until the run has ended, and return it. The wait survives lost connections."""
        self._ended(run.run_id)
        return self.get_run(run.eval_id, run.id)

    def search(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        parameters: Mapping[str, Any],
        **how: Any,
    ) -> EvalSearch:
        """Start a search: ``parameters`` maps paths, such as ``model``, ``apps.NAME.STEP.system`` or
        ``sampling_params.temperature``, to lists of values. ``how``: ``method`` (``grid`` or ``random``),
        ``trials``, ``seed``, ``objective``, ``direction``, ``halving``, ``name``. See `wait_search`.
        """
        path = self._native(eval_id, "search")
        items, uploaded_id = self._items(data)
        try:
            body = {**how, "data_source": _source(source, items), "parameters": dict(parameters)}
            return self._transport.request("POST", path, EvalSearch, json=body, slow=True)
        finally:
            self._forget(uploaded_id)

    def plan_search(
        self,
        eval_id: str,
        source: Mapping[str, Any],
        data: Data,
        parameters: Mapping[str, Any],
        **how: Any,
    ) -> EvalPlan:
        """Validate a complete search and return its plan, without calling a model."""
        path = self._native(eval_id, "search")
        items, uploaded_id = self._items(data)
        try:
            search = {**how, "data_source": _source(source, items), "parameters": dict(parameters)}
            body = {**search, "dry_run": True}
            return self._transport.request("POST", path, EvalPlan, json=body, slow=True)
        finally:
            self._forget(uploaded_id)

    def wait_search(self, search: EvalSearch) -> EvalSearch:
        """Wait until the search has ended, and return it. The wait survives lost connections."""
        self._ended(search.run_id)
        return self.get_search(search.eval_id, search.id)

    def _items(self, data: Data) -> tuple[dict[str, Any], str | None]:
        """Return the reference to the items, and the id of the file if one was uploaded. The caller can delete that
        file later, because the daemon keeps the items that it has read.
        """
        if isinstance(data, str):
            return {"type": "file_id", "id": data}, None
        if isinstance(data, EvalRun):
            return {"type": "eval_run", "id": data.id}, None
        if isinstance(data, Path):
            file = Files(self._transport).add(data, purpose=PURPOSE)
            return {"type": "file_id", "id": file.id}, file.id
        # A caller can pass each item directly, or wrapped in an object under the key ``item``.
        wrapped_items = [
            item if isinstance(item.get("item"), Mapping) else {"item": dict(item)} for item in data
        ]
        return {"type": "file_content", "content": wrapped_items}, None

    def _forget(self, file_id: str | None) -> None:
        if file_id is not None:
            Files(self._transport).remove(file_id)

    def _ended(self, run_id: str) -> None:
        with suppress(NotFound):  # the run ended so long ago that its events have been deleted
            Runs(self._transport).wait(run_id)

    def _at(self, eval_id: str, *parts: str) -> str:
        return at("v1", "evals", check_path_name(eval_id, "an evaluation"), *parts)

    def _native(self, eval_id: str, *parts: str) -> str:
        return at("api", "evals", check_path_name(eval_id, "an evaluation"), *parts)


def _source(source: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data source with its items. If omitted, ``type`` is ``retrieval`` for a ``store``, ``completions`` for
    a ``model``, and ``jsonl`` otherwise; ``messages`` are shorthand for a template.
    """
    kind = "retrieval" if "store" in source else "completions" if "model" in source else "jsonl"
    data_source = {"type": kind, **source, "source": data}
    messages = data_source.pop("messages", None)
    if messages is not None:
        data_source["input_messages"] = {"type": "template", "template": list(messages)}
    return data_source
