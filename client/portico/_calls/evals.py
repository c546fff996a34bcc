"""Requests about evaluations, and how to read what comes back, as `portico._calls` has the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico import _read as read
from portico._calls.call import Call, at, given, named
from portico.errors import NotPortico
from portico.evals import (
    CriterionScore,
    Eval,
    EvalApplied,
    EvalOutput,
    EvalPlan,
    EvalRun,
    EvalSearch,
    EvalTrial,
)
from portico.values import Page

ANYTHING: Mapping[str, Any] = {"type": "object"}
"""The schema of items that may be any object."""


def eval_create(
    name: str, criteria: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None, metadata: Any
) -> Call[Eval]:
    config = {"type": "custom", "item_schema": dict(schema or ANYTHING), "include_sample_schema": True}
    body = given(
        name=name, data_source_config=config, testing_criteria=list(criteria), metadata=metadata or None
    )
    return Call("POST", "/v1/evals", evaluation, json=body)


def evals_list(after: str | None, limit: int) -> Call[Page[Eval]]:
    query = given(after=after, limit=limit, order="desc")
    return Call("GET", "/v1/evals", read.page(evaluation), query=query)


def eval_get(eval_id: str) -> Call[Eval]:
    return Call("GET", _one(eval_id), evaluation)


def eval_update(eval_id: str, name: str | None, metadata: Mapping[str, str] | None) -> Call[Eval]:
    return Call("POST", _one(eval_id), evaluation, json=given(name=name, metadata=metadata))


def eval_remove(eval_id: str) -> Call[None]:
    return Call("DELETE", _one(eval_id), lambda _value: None)


def run_create(eval_id: str, name: str, source: Mapping[str, Any], metadata: Any) -> Call[EvalRun]:
    body = given(name=name, data_source=source, metadata=metadata or None)
    return Call("POST", f"{_one(eval_id)}/runs", run, json=body, slow=True)


def runs_list(eval_id: str, after: str | None, limit: int) -> Call[Page[EvalRun]]:
    query = given(after=after, limit=limit, order="desc")
    return Call("GET", f"{_one(eval_id)}/runs", read.page(run), query=query)


def run_get(eval_id: str, run_id: str) -> Call[EvalRun]:
    return Call("GET", _run(eval_id, run_id), run)


def run_cancel(eval_id: str, run_id: str) -> Call[EvalRun]:
    return Call("POST", f"{_run(eval_id, run_id)}/cancel", run)


def run_remove(eval_id: str, run_id: str) -> Call[None]:
    return Call("DELETE", _run(eval_id, run_id), lambda _value: None)


def outputs_list(
    eval_id: str, run_id: str, status: str | None, after: str | None, limit: int
) -> Call[Page[EvalOutput]]:
    query = given(status=status, after=after, limit=limit)
    return Call("GET", f"{_run(eval_id, run_id)}/output_items", read.page(_output), query=query)


def search_create(eval_id: str, wish: Mapping[str, Any]) -> Call[EvalSearch]:
    return Call("POST", _native(eval_id, "search"), search, json=dict(wish), slow=True)


def search_plan(eval_id: str, wish: Mapping[str, Any]) -> Call[EvalPlan]:
    return Call("POST", _native(eval_id, "search"), _plan, json={**wish, "dry_run": True}, slow=True)


def searches_list(eval_id: str, limit: int) -> Call[list[EvalSearch]]:
    return Call("GET", _native(eval_id, "searches"), read.rows(search), query={"limit": limit})


def search_get(eval_id: str, search_id: str) -> Call[EvalSearch]:
    return Call("GET", _search(eval_id, search_id), search)


def search_cancel(eval_id: str, search_id: str) -> Call[EvalSearch]:
    return Call("POST", f"{_search(eval_id, search_id)}/cancel", search)


def search_apply(eval_id: str, search_id: str, trial: str | None) -> Call[EvalApplied]:
    return Call("POST", f"{_search(eval_id, search_id)}/apply", _applied, json=given(trial=trial))


def source_of(source: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """A data source with its items. Left out, ``type`` is ``retrieval`` for a ``store``, ``completions`` for a
    ``model``, and ``jsonl`` for neither; ``messages`` stand for a template of them.
    """
    kind = "retrieval" if "store" in source else "completions" if "model" in source else "jsonl"
    made = {"type": kind, **source, "source": data}
    messages = made.pop("messages", None)
    if messages is not None:
        made["input_messages"] = {"type": "template", "template": list(messages)}
    return made


def content_of(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Items as the request has them; each may stand alone, or as the ``item`` of an object."""
    wrapped = [one if isinstance(one.get("item"), Mapping) else {"item": dict(one)} for one in data]
    return {"type": "file_content", "content": wrapped}


def evaluation(value: Any) -> Eval:
    """An evaluation as the daemon shows it."""
    return read.value_of(Eval, value)


def run(value: Any) -> EvalRun:
    """A run as the daemon shows it."""
    if not isinstance(value, Mapping):
        raise NotPortico("The answer is not a run of an evaluation. Is there a Portico daemon at this URL?")
    used = value.get("per_model_usage") or ()
    return read.value_of(
        EvalRun,
        value,
        criteria=tuple(
            read.value_of(CriterionScore, one) for one in value.get("per_testing_criteria_results") or ()
        ),
        tokens=sum(int(one.get("total_tokens") or 0) for one in used),
        error=_message(value),
    )


def _output(value: Any) -> EvalOutput:
    return read.value_of(EvalOutput, value)


def search(value: Any) -> EvalSearch:
    """A search as the daemon shows it."""
    if not isinstance(value, Mapping):
        raise NotPortico("The answer is not a search. Is there a Portico daemon at this URL?")
    trials = tuple(read.value_of(EvalTrial, one, error=_message(one)) for one in value.get("trials") or ())
    return read.value_of(EvalSearch, value, trials=trials, error=_message(value))


def _plan(value: Any) -> EvalPlan:
    return read.value_of(EvalPlan, value)


def _applied(value: Any) -> EvalApplied:
    return read.value_of(EvalApplied, value)


def _message(value: Mapping[str, Any]) -> str:
    return str((value.get("error") or {}).get("message") or "")


def _one(eval_id: str) -> str:
    return at("v1", "evals", named(eval_id, "an evaluation"))


def _run(eval_id: str, run_id: str) -> str:
    return f"{_one(eval_id)}{at('runs', named(run_id, 'a run'))}"


def _native(eval_id: str, what: str) -> str:
    return at("api", "evals", named(eval_id, "an evaluation"), what)


def _search(eval_id: str, search_id: str) -> str:
    return f"{_native(eval_id, 'searches')}{at(named(search_id, 'a search'))}"
