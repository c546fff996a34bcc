"""Evaluations with OpenAI's own client: created, run on models and apps, judged, interrupted."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.evals.eval_daemon import (
    ANYTHING,
    CONFIGURATION,
    COUNTRIES,
    EQUAL,
    asking,
    client_of,
    ended,
    native,
)

from portico.client import Client


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "portico.yaml").write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        yield running


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with client_of(daemon) as openai_client:
        yield openai_client


def make(client: openai.OpenAI, *criteria: dict[str, Any], **more: Any) -> str:
    evaluation = client.evals.create(
        data_source_config=more.pop("config", ANYTHING),  # type: ignore[arg-type]
        testing_criteria=list(criteria) or [EQUAL],  # type: ignore[arg-type]
        **more,
    )
    return evaluation.id


def run(daemon: Daemon, client: openai.OpenAI, eval_id: str, source: dict[str, Any]) -> Any:
    new_run = client.evals.runs.create(eval_id, data_source=source)  # type: ignore[arg-type]
    ended(daemon, new_run.run_id)  # type: ignore[attr-defined]
    return client.evals.runs.retrieve(new_run.id, eval_id=eval_id)


def test_evaluations_are_made_listed_renamed_and_forgotten(client: openai.OpenAI) -> None:
    config = {"type": "custom", "item_schema": {"type": "object"}, "include_sample_schema": True}
    first = client.evals.create(
        name="capitals",
        data_source_config=config,
        testing_criteria=[EQUAL],
        metadata={"team": "atlas"},  # type: ignore[arg-type, list-item]
    )
    assert (first.object, first.name, first.metadata) == ("eval", "capitals", {"team": "atlas"})
    assert set(first.data_source_config.schema_["properties"]) == {"item", "sample"}  # type: ignore[union-attr, call-overload, arg-type]
    assert first.testing_criteria[0].name == "equal"
    second = make(client, name="others")
    names = [evaluation.name for evaluation in client.evals.list(limit=1)]
    assert names == ["capitals", "others"]
    renamed = client.evals.update(first.id, name="capitals of the world", metadata={"team": "b"})
    assert (renamed.name, renamed.metadata) == ("capitals of the world", {"team": "b"})
    newest = client.evals.list(order="desc", order_by="updated_at")
    assert [evaluation.id for evaluation in newest.data] == [first.id, second]
    assert client.evals.delete(first.id).deleted
    client.evals.delete(second)
    with pytest.raises(openai.NotFoundError, match=r"evaluation '.*' does not exist"):
        client.evals.retrieve(first.id)


@pytest.mark.conformance("OpenAI", "Evals", "openai")
def test_a_model_is_asked_for_each_item_and_judged(daemon: Daemon, client: openai.OpenAI) -> None:
    similar = {
        "type": "text_similarity",
        "name": "similar",
        "input": "{{sample.output_text}}",
        "reference": "{{item.capital}}",
        "evaluation_metric": "fuzzy_match",
        "pass_threshold": 0.5,
    }
    eval_id = make(client, EQUAL, similar)
    items = [*COUNTRIES, {"item": {"country": "broken", "capital": "none"}}]
    result = run(daemon, client, eval_id, asking(*items, prompt="The capital of {{item.country}}?"))
    assert (result.status, result.model) == ("completed", "clerk")
    counts = result.result_counts
    assert (counts.total, counts.passed, counts.failed, counts.errored) == (3, 1, 1, 1)
    by_name = {entry.testing_criteria: entry for entry in result.per_testing_criteria_results}
    assert (by_name["equal"].passed, by_name["equal"].failed) == (1, 2)
    [usage] = result.per_model_usage
    assert (usage.run_model_name, usage.invocation_count) == ("clerk", 2)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens > 0
    assert 0 < result.score < 1 and result.standard_error > 0

    outputs = list(client.evals.runs.output_items.list(result.id, eval_id=eval_id, limit=1))
    assert [entry.status for entry in outputs] == ["fail", "pass", "error"]
    assert outputs[0].datasource_item == COUNTRIES[0]["item"]
    assert outputs[0].sample.input[0].content == "The capital of France?"
    assert outputs[0].sample.output[0].content == "It is Paris."
    assert [(entry.name, entry.passed) for entry in outputs[0].results] == [
        ("equal", False),
        ("similar", True),
    ]
    assert outputs[2].sample.error.message == "That is broken."
    again = client.evals.runs.output_items.retrieve(outputs[1].id, eval_id=eval_id, run_id=result.id)
    assert again.sample.output[0].content == "Lima"
    failed_outputs = client.evals.runs.output_items.list(result.id, eval_id=eval_id, status="fail")
    assert [entry.id for entry in failed_outputs.data] == [outputs[0].id]
    client.evals.runs.delete(result.id, eval_id=eval_id)
    with pytest.raises(openai.NotFoundError):
        client.evals.runs.retrieve(result.id, eval_id=eval_id)


def test_tool_calls_for_different_items_have_different_idempotency_keys(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    with Client(daemon.url, key="pk-admin-0123456789abcdef") as admin:
        admin.tools.add("say-key", command=["printenv", "PORTICO_IDEMPOTENCY_KEY"])
        for name, step in (
            ("key", {"name": "say", "op": "tool", "tool": "say-key", "arguments": {}}),
            ("keyed", {"name": "inner", "op": "subflow", "app": "key"}),
        ):
            admin.apps.deploy(name, {"portico_flow": 1, "name": name, "step": step})
    eval_id = make(client, EQUAL)
    result = run(daemon, client, eval_id, asking(*COUNTRIES, model="keyed", prompt="{{item.country}}"))
    outputs = client.evals.runs.output_items.list(result.id, eval_id=eval_id)
    keys = [output.sample.output[0].content for output in outputs]
    assert all(key and "say" in key for key in keys)
    assert len(set(keys)) == len(COUNTRIES)


def test_an_app_is_evaluated_as_a_model_is_and_files_give_items(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    lines = "\n".join(json.dumps(item) for item in COUNTRIES).encode()
    file = client.files.create(file=("countries.jsonl", lines), purpose="evals")
    eval_id = make(client, {**EQUAL, "operation": "ilike", "input": "{{sample.output_text}}"})
    source = {
        **asking(model="atlas", prompt="{{item.country}}"),
        "type": "responses",
        "source": {"type": "file_id", "id": file.id},
        "sampling_params": {"temperature": 0, "max_completion_tokens": 20},
    }
    result = run(daemon, client, eval_id, source)
    assert (result.result_counts.passed, result.result_counts.total) == (2, 2)
    assert result.data_source.source.id == file.id


def test_given_answers_are_graded_without_calling_a_model(daemon: Daemon, client: openai.OpenAI) -> None:
    source = {
        "type": "python",
        "name": "length",
        "source": "def grade(sample, item):\n    return len(sample['output_text']) / item['length']",
        "pass_threshold": 0.9,
    }
    eval_id = make(client, source)
    content = [
        {"item": {"length": 4}, "sample": {"output_text": "four"}},
        {"item": {"length": 8}, "sample": {"output_text": "four"}},
        {"item": {"length": 0}, "sample": {"output_text": "four"}},
    ]
    result = run(
        daemon, client, eval_id, {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    )
    assert result.per_model_usage == []
    outputs = client.evals.runs.output_items.list(result.id, eval_id=eval_id).data
    assert [(output.status, output.results[0].score) for output in outputs] == [
        ("pass", 1.0),
        ("fail", 0.5),
        ("error", 0.0),
    ]
    assert "ZeroDivisionError" in outputs[2].results[0].error["message"]  # type: ignore[index]


def test_models_judge_by_labels_and_scores(daemon: Daemon, client: openai.OpenAI) -> None:
    label = {
        "type": "label_model",
        "name": "right",
        "model": "judge",
        "input": [{"role": "user", "content": "label: {{sample.output_text}}"}],
        "labels": ["right", "wrong"],
        "passing_labels": ["right"],
    }
    score = {
        "type": "score_model",
        "name": "good",
        "model": "judge",
        "input": [
            {"role": "user", "content": {"type": "input_text", "text": "score {{sample.output_text}}"}}
        ],
        "range": [1, 7],
    }
    eval_id = make(client, label, score)
    items = [*COUNTRIES, {"item": {"country": "nonsense", "capital": ""}}]
    result = run(daemon, client, eval_id, asking(*items, prompt="{{item.country}}"))
    outputs = client.evals.runs.output_items.list(result.id, eval_id=eval_id).data
    assert [[entry.score for entry in output.results] for output in outputs] == [[1, 7], [1, 2], [0, 2]]
    assert outputs[0].results[0].sample == {"label": "right"}
    assert [entry.status for entry in outputs] == ["pass", "fail", "error"]
    assert "did not return one of right, wrong" in outputs[2].results[0].error["message"]  # type: ignore[index]
    calls = {entry.run_model_name: entry.invocation_count for entry in result.per_model_usage}
    assert calls == {"clerk": 3, "judge": 6}
    mean = {entry.testing_criteria: entry.mean for entry in result.per_testing_criteria_results}
    assert mean["good"] == pytest.approx(11 / 3)


def test_the_items_of_an_earlier_run_can_be_reused_in_a_new_run(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    eval_id = make(client)
    earlier_run = run(daemon, client, eval_id, asking())
    with Client(daemon.url, "pk-admin-0123456789abcdef") as portico:
        first = portico.evals.get_run(eval_id, earlier_run.id)
        source = {"model": "clerk", "messages": [{"role": "user", "content": "{{item.country}}"}]}
        again = portico.evals.wait(portico.evals.run(eval_id, source, first))
        outputs = portico.evals.outputs(eval_id, again.id).data
    assert [output.datasource_item["country"] for output in outputs] == ["France", "Peru"]
    assert (earlier_run.score, again.score, again.items) == (1.0, 0.5, 2)
    client.evals.runs.delete(earlier_run.id, eval_id=eval_id)  # each run keeps its own items
    third = run(daemon, client, eval_id, asking(source={"type": "eval_run", "id": again.id}))
    assert third.result_counts.passed == 2
    with pytest.raises(openai.NotFoundError) as caught:
        run(daemon, client, make(client), asking(source={"type": "eval_run", "id": again.id}))
    assert caught.value.code == "eval_run_not_found"


@pytest.mark.parametrize(
    ("source", "code", "param", "words"),
    [
        (asking(prompt="{{item.contry}}?"), "unknown_field", "data_source.source", "'country'"),
        (asking(model="clark"), "model_not_found", "data_source.model", "'clerk'"),
        (
            asking(model="fake-embedding"),
            "unsupported_operation",
            "data_source.model",
            "does not support chat",
        ),
        (asking(source={"type": "file_content", "content": []}), "empty_dataset", None, "no items"),
        (asking({"nothing": 1}), "invalid_line", None, '"item"'),
        (asking(source={"type": "file_id", "id": "file-no"}), "file_not_found", None, "not found"),
        (
            asking(source={"type": "eval_run", "id": "evalrun_no"}),
            "eval_run_not_found",
            None,
            "does not exist",
        ),
        (asking(source={"type": "stored_completions"}), "unsupported_parameter", None, "not stored here"),
        (asking(sampling_params={"temprature": 1}), "unknown_field", None, "'temperature'"),
        (asking(type="completion"), "invalid_value", "data_source.type", "completions"),
    ],
)
def test_an_invalid_run_is_refused_before_any_model_call(
    client: openai.OpenAI, source: dict[str, Any], code: str, param: str | None, words: str
) -> None:
    eval_id = make(client)
    with pytest.raises(openai.APIStatusError) as caught:
        client.evals.runs.create(eval_id, data_source=source)  # type: ignore[arg-type]
    assert caught.value.status_code in (400, 404)
    assert caught.value.code == code
    assert param is None or caught.value.param == param
    assert words in caught.value.message
    assert client.evals.runs.list(eval_id).data == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"testing_criteria": []}, "1 to 32 criteria"),
        ({"testing_criteria": [EQUAL, EQUAL]}, "another criterion"),
        ({"testing_criteria": [{"type": "vibes", "name": "x"}]}, "string_check"),
        ({"data_source_config": {"type": "logs"}}, "Calls are not stored"),
        ({"data_source_config": {"type": "custom", "item_schema": {"type": "thing"}}}, "not a JSON schema"),
        (
            {
                "testing_criteria": [
                    {"type": "score_model", "name": "x", "model": "nobody", "input": [{"role": "user"}]}
                ]
            },
            "'nobody'",
        ),
    ],
)
def test_an_invalid_evaluation_is_refused_with_the_reason(
    client: openai.OpenAI, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.evals.create(**{"data_source_config": ANYTHING, "testing_criteria": [EQUAL], **given})
    assert words in caught.value.message


def test_another_keys_evaluation_does_not_exist(daemon: Daemon, client: openai.OpenAI) -> None:
    eval_id = make(client)
    with client_of(daemon, "tester") as tester_client:
        for call in (tester_client.evals.retrieve, tester_client.evals.runs.list, tester_client.evals.delete):
            with pytest.raises(openai.NotFoundError):
                call(eval_id)
        own_eval_id = make(tester_client)
        result = run(daemon, tester_client, own_eval_id, asking())
        assert result.result_counts.passed == 2


def test_a_key_that_is_revoked_ends_its_runs_with_a_reason(daemon: Daemon, client: openai.OpenAI) -> None:
    with native(daemon) as admin:
        key = admin.post("/api/keys", json={"name": "passing", "scopes": ["chat"]}).json()
        items = [{"item": {"country": f"slow {n}", "capital": "slow"}} for n in range(200)]
        with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=key["key"], max_retries=0) as passing:
            eval_id = make(passing)
            eval_run: Any = passing.evals.runs.create(
                eval_id,
                data_source=asking(*items, prompt="{{item.country}}"),  # type: ignore[arg-type]
            )
        until_done(daemon, eval_run, 1)
        assert admin.delete(f"/api/keys/{key['id']}").is_success
    ended(daemon, eval_run.run_id)
    result = client.evals.runs.retrieve(eval_run.id, eval_id=eval_id)
    assert result.status == "failed"
    assert "revoked" in result.error.message
    assert result.result_counts.total < 200


def test_a_run_is_cancelled_and_keeps_what_was_done(daemon: Daemon, client: openai.OpenAI) -> None:
    eval_id = make(client)
    items = [{"item": {"country": f"slow {n}", "capital": "slow"}} for n in range(200)]
    eval_run: Any = client.evals.runs.create(eval_id, data_source=asking(*items, prompt="{{item.country}}"))  # type: ignore[arg-type]
    until_done(daemon, eval_run, 1)
    cancelled = client.evals.runs.cancel(eval_run.id, eval_id=eval_id)
    assert cancelled.status == "canceled"
    assert 1 <= cancelled.result_counts.total < 200
    with pytest.raises(openai.ConflictError, match="is already canceled"):
        client.evals.runs.cancel(eval_run.id, eval_id=eval_id)
    ended(daemon, eval_run.run_id)
    later = client.evals.runs.retrieve(eval_run.id, eval_id=eval_id)
    assert later.result_counts.total == cancelled.result_counts.total


def until_done(daemon: Daemon, begun: Any, count: int) -> None:
    """Wait until that many items of a run are done."""
    with native(daemon) as client, client.stream("GET", f"/api/runs/{begun.run_id}/events") as answer:
        for line in answer.iter_lines():
            if line.startswith("data: ") and json.loads(line[6:]).get("done", 0) >= count:
                return
    raise AssertionError("the run ended first")


@pytest.mark.slow
@pytest.mark.process
def test_a_run_resumes_after_the_daemon_is_killed_and_asks_no_item_twice(home: Path) -> None:
    arguments = (home / "second", "--file", str(home / "portico.yaml"))
    items = [{"item": {"country": f"slow {n}", "capital": "slow"}} for n in range(12)]
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        eval_id = make(client)
        eval_run: Any = client.evals.runs.create(
            eval_id,
            data_source=asking(*items, prompt="{{item.country}}"),  # type: ignore[arg-type]
        )
        until_done(daemon, eval_run, 4)
        daemon.stop(signal.SIGKILL)
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        ended(daemon, eval_run.run_id)
        result = client.evals.runs.retrieve(eval_run.id, eval_id=eval_id)
        assert (result.status, result.result_counts.passed) == ("completed", 12)
        assert result.per_model_usage[0].invocation_count == 12
