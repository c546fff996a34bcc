"""`portico evals` and ``client.evals`` against a daemon whose model echoes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client, Conflict

FILE = """
name: words
data: words.jsonl
criteria:
  - {type: string_check, name: same, input: "{{sample.output_text}}", reference: "{{item.word}}", operation: eq}
source:
  model: default
  messages: [{role: user, content: "{{item.word}}"}]
search:
  parameters:
    "input_messages.template[0].content": ["{{item.word}}", "Say {{item.word}}"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = [json.dumps({"item": {"word": word}}) for word in ("heron", "amber")]
    (tmp_path / "words.jsonl").write_text("\n".join(lines), encoding="utf-8")
    path = tmp_path / "words.yaml"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_a_file_is_run_listed_and_shown(command: Command, daemon: Daemon, file: Path) -> None:
    planned = command("evals", "run", "-f", str(file), "--dry-run", "--json")
    assert planned.json == {"items": 2, "asked": 2, "judged": 0}
    done = command("evals", "run", "-f", str(file))
    assert done.code == 0, done.err
    assert "2 of 2" in done.out
    assert "1.000 ± 0.000" in done.out
    again = command("evals", "run", "-f", str(file), "--json").json
    assert (again["status"], again["score"]) == ("completed", 1.0)
    eval_id = command("evals", "create", "-f", str(file)).out.strip()
    assert again["eval_id"] == eval_id
    run_list = command("evals", "list", eval_id, "--json").json
    assert len(run_list["runs"]) == 2
    assert eval_id in command("evals", "list").out
    assert "string_check" in command("evals", "show", eval_id).out
    with Client(daemon.url) as client:
        assert [file_entry for file_entry in client.files.list() if file_entry.purpose == "evals"] == []
    late = command("evals", "cancel", eval_id, again["id"])
    assert (late.code, "already completed" in late.err) == (1, True)


def test_evals_show_failed_prints_failed_items_with_their_answers(command: Command, file: Path) -> None:
    file.write_text(file.read_text().replace('content: "{{item.word}}"', 'content: "no"'), encoding="utf-8")
    run = command("evals", "run", "-f", str(file), "--json").json
    output = command("evals", "show", run["eval_id"], run["id"], "--failed").out
    assert '{"word": "heron"}\tfail\tno\tsame 0' in output


def test_evals_search_ranks_the_trials_and_marks_the_best(command: Command, file: Path) -> None:
    planned = command("evals", "search", "-f", str(file), "--dry-run", "--json").json
    assert (planned["trials"], planned["asked"]) == (2, 4)
    done = command("evals", "search", "-f", str(file))
    assert done.code == 0, done.err
    _heading, *rows = [line.split("\t") for line in done.out.splitlines() if "\t" in line]
    assert [row[0] for row in rows] == ["1 best", "2"]
    assert rows[0][1:4] == ["input_messages.template[0].content={{item.word}}", "1.000 ± 0.000", "2"]
    refusal = command("evals", "search", "-f", str(file), "--apply")
    assert (refusal.code, "apps.NAME" in refusal.err) == (1, True)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: words", "nam: words", "Did you mean 'name'?"),
        ("data: words.jsonl", "data: word.jsonl", "word.jsonl for 'data' does not exist"),
        ("{{item.word}}\"}]", "{{item.wort}}\"}]", "Did you mean 'word'?"),
        ("model: default", "model: defualt", "Did you mean 'default'"),
        ("operation: eq", "operation: equals", "must be one of"),
    ],
)  # fmt: skip
def test_an_invalid_evaluation_file_is_refused_with_a_reason(
    command: Command, file: Path, old: str, new: str, words: str
) -> None:
    file.write_text(file.read_text().replace(old, new), encoding="utf-8")
    done = command("evals", "run", "-f", str(file))
    assert done.code == 1
    assert words in done.err


def test_an_evaluation_with_many_calls_needs_confirmation(command: Command, file: Path) -> None:
    lines = "\n".join(json.dumps({"item": {"word": str(number)}}) for number in range(1001))
    (file.parent / "words.jsonl").write_text(lines, encoding="utf-8")
    done = command("evals", "run", "-f", str(file))
    assert done.code == 1
    assert "1,001 calls" in done.err or "--yes" in done.err


def test_the_sdk_runs_searches_and_applies(daemon: Daemon) -> None:
    items = [{"word": "heron"}, {"word": "amber"}]
    criterion = {"type": "regex", "name": "bird", "input": "{{sample.output_text}}", "pattern": "heron"}
    source = {"model": "default", "messages": [{"role": "user", "content": "{{item.word}}"}]}
    with Client(daemon.url) as client:
        test = client.evals.create("birds", [criterion], metadata={"team": "b"})
        renamed = client.evals.update(test.id, name="herons")
        assert (renamed.name, renamed.metadata) == ("herons", {"team": "b"})
        run = client.evals.wait(client.evals.run(test.id, source, items))
        assert (run.score, run.criteria[0].passed, run.ended) == (0.5, 1, True)
        [failed_output] = client.evals.outputs(test.id, run.id, status="fail")
        assert (failed_output.text, failed_output.datasource_item) == ("amber", {"word": "amber"})
        search = client.evals.search(test.id, source, items, {"sampling_params.seed": [1, 2]})
        search = client.evals.wait_search(search)
        assert [trial.score for trial in search.trials] == [0.5, 0.5]
        with pytest.raises(Conflict, match="None of these settings can be deployed"):
            client.evals.apply(test.id, search.id)
        assert [entry.id for entry in client.evals.searches(test.id)] == [search.id]
        client.evals.remove_run(test.id, run.id)
        assert all(entry.search_id for entry in client.evals.runs(test.id))
        client.evals.remove(test.id)
