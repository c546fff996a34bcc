"""`portico tune` against a daemon with simulated training, and its converters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.client.cli.test_interrupt import Terminal
from tests.daemon import Daemon

from portico import Client
from portico.cli.curve import curve, lasts


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    return write(
        tmp_path / "examples.jsonl", [(f"What is {number}?", f"It is {number}.") for number in range(20)]
    )


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    lines = [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]}
        for question, reply in pairs
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_file_is_trained_on_and_the_result_can_be_asked(
    command: Command, daemon: Daemon, examples: Path
) -> None:
    done = command("tune", str(examples), "--base", "default", "--suffix", "numbers", "--epochs", "1")
    assert done.code == 0, done.err
    assert "The job has successfully completed" in done.err
    model = done.out.strip().rpartition(" ")[2]
    assert model.startswith("ft:echo:portico:numbers:")
    with Client(daemon.url) as client:
        assert client.chat("What is 7?", model).read().text == "It is 7."
    job = command("tune", "list", "--json").json["data"][0]
    assert (job["status"], job["fine_tuned_model"]) == ("succeeded", model)
    details = command("tune", "show", job["id"])
    assert "succeeded" in details.out
    assert "█" in details.out
    assert "New fine-tuned model created" in details.out
    assert job["id"] in command("tune", "list").out


def test_a_model_is_trained_with_the_prompts_of_an_app_and_compared_with_it(
    command: Command, daemon: Daemon, examples: Path
) -> None:
    with Client(daemon.url) as client:
        client.apply({"agents": [{"name": "counter", "model": "default", "instructions": "Count."}]})
        done = command("tune", str(examples), "--base", "default", "--epochs", "1", "--app", "counter")
        assert done.code == 0, done.err
        assert "'counter' writes the prompts used in training, for 'echo'" in done.err
        job = client.tuning.list(limit=1).data[0]
        assert job.app == "counter"
        equal_check = command("tune", "check", job.id)
        assert equal_check.code == 0
        assert "echo, which is not the result" in equal_check.out
        client.apply(
            {"agents": [{"name": "counter", "model": "default", "instructions": "Count backwards."}]}
        )
        difference_check = command("tune", "check", job.id, "--json")
        assert (
            difference_check.code,
            difference_check.json["same"],
            len(difference_check.json["differences"]),
        ) == (1, False, 3)


def test_a_dry_run_says_what_would_be_done_and_leaves_nothing(
    command: Command, daemon: Daemon, examples: Path
) -> None:
    with Client(daemon.url) as client:
        files_before = [file.id for file in client.files.list().data]
        done = command("tune", str(examples), "--base", "default", "--dry-run")
        assert done.code == 0, done.err
        assert "20, " in done.out
        assert "lora" in done.out
        assert [file.id for file in client.files.list().data] == files_before
    explained = command("tune", str(examples), "--base", "default", "--explain", "--set", "rank=4")
    assert "rank\t4\tas given" in explained.out
    assert "precision\t" in explained.out
    plan = command("tune", str(examples), "--base", "default", "--dry-run", "--json").json
    assert (
        plan["recipe"]["steps"] == 25
    )  # five epochs: the fewer the examples, the more often they are repeated
    assert set(plan["recipe"]["reasons"]) <= {*plan["recipe"], "batch"}


def test_an_invalid_training_file_or_option_is_reported_in_one_sentence(
    command: Command, tmp_path: Path
) -> None:
    bad = write(tmp_path / "bad.jsonl", [("What?", "")])
    done = command("tune", str(bad), "--base", "default", "--dry-run")
    assert done.code == 1
    assert "line 1: 'messages[1].content' is empty" in done.err
    failure = command("tune", str(bad), "--base", "default")
    assert failure.code == 1
    assert failure.err.strip().splitlines()[-1].startswith("1 of 1 lines cannot be used for training")
    assert command("tune", str(tmp_path / "none.jsonl"), "--base", "default").code == 1
    wrong = command("tune", str(bad), "--base", "default", "--set", "rank")
    assert "--set takes NAME=VALUE" in wrong.err


def test_a_training_job_is_started_paused_resumed_and_cancelled(command: Command, examples: Path) -> None:
    job_start = command(
        "tune",
        str(examples),
        "--base",
        "default",
        "--epochs",
        "900",
        "--batch-size",
        "1",
        "--detach",
        "--json",
    )
    job = job_start.json["id"]
    assert command("tune", "pause", job, "--json").json["paused"] is True
    assert "continues" in command("tune", "resume", job).out
    assert "is cancelled" in command("tune", "cancel", job).out
    again = command("tune", "cancel", job)
    assert again.code == 1
    assert "already cancelled" in again.err
    assert command("tune", "follow", job).code == 1


@pytest.fixture
def terminal(daemon: Daemon, examples: Path) -> Iterator[Terminal]:
    arguments = ("tune", str(examples), "--base", "default", "--epochs", "900", "--batch-size", "1")
    training_terminal = Terminal(daemon.url, *arguments)
    yield training_terminal
    training_terminal.close()


def test_ctrl_c_leaves_the_job_at_work_and_says_how_to_follow_it(terminal: Terminal, daemon: Daemon) -> None:
    terminal.until("Fine-tuning job started")
    terminal.interrupt()
    terminal.until("The job continues")
    terminal.until("portico tune follow ftjob-")
    with Client(daemon.url) as client:
        job = client.tuning.list(limit=1).data[0]
        assert job.status == "running"
        client.tuning.cancel(job.id)


ALPACA = [{"instruction": "Translate", "input": "Hafen", "output": "harbour", "history": [["Hello", "Hi"]]}]
SHAREGPT = [
    {"system": "Be kind", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}
]


def test_rated_answers_become_examples_pairs_and_an_evaluation_of_other_questions(
    command: Command, daemon: Daemon, tmp_path: Path
) -> None:
    def rate(client: Client, asked: str, said: str, value: str, correction: str = "") -> None:
        session = client.sessions.open("counter")
        client.sessions.add(
            session.id, [{"sender": "user", "content": asked}, {"sender": "counter", "content": said}]
        )
        client.sessions.rate(session.id, 2, value, correction=correction)

    with Client(daemon.url) as client:
        client.apply({"agents": [{"name": "counter", "model": "default", "instructions": "Count."}]})
        for number in range(12):
            rate(client, f"What is {number}?", f"It is {number}.", "good")
        rate(client, "What is 0?", "Nothing.", "bad")
        rate(client, "What is 12?", "A dozen.", "corrected", "It is 12.")
    to, items_file, pairs = tmp_path / "examples.jsonl", tmp_path / "items.jsonl", tmp_path / "pairs.jsonl"
    done = command(
        *("tune", "collect", str(to), "--app", "counter", "--eval", str(items_file), "--held-back", "0.4")
    )
    assert done.code == 0, done.err
    examples = [json.loads(line)["messages"] for line in to.read_text("utf-8").splitlines()]
    items = [json.loads(line)["item"] for line in items_file.read_text("utf-8").splitlines()]
    answers = {question["content"]: answer["content"] for question, answer in examples}
    held_back_answers = {item["messages"][0]["content"]: item["answer"] for item in items}
    assert answers and held_back_answers and not answers.keys() & held_back_answers.keys()
    assert {**answers, **held_back_answers} == {
        f"What is {number}?": f"It is {number}." for number in range(13)
    }
    assert command("tune", str(to), "--base", "default", "--app", "counter", "--dry-run").code == 0
    evaluation = {
        "name": "rated",
        "data": "items.jsonl",
        "source": {
            "model": "counter",
            "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        },
        "criteria": [
            {
                "type": "string_check",
                "name": "asked",
                "operation": "ilike",
                "input": "{{sample.output_text}}",
                "reference": "What is",
            }
        ],
    }
    (tmp_path / "rated.yaml").write_text(json.dumps(evaluation), encoding="utf-8")
    run = command("evals", "run", "-f", str(tmp_path / "rated.yaml"), "--json")
    assert (run.code, run.json["result_counts"]["passed"]) == (0, len(items)), run.err
    assert command("tune", "collect", str(pairs), "--method", "dpo", "--json").json["examples"] == 2
    preferred = [json.loads(line) for line in pairs.read_text("utf-8").splitlines()]
    assert [
        (line["preferred_output"][0]["content"], line["non_preferred_output"][0]["content"])
        for line in preferred
    ] == [("It is 0.", "Nothing."), ("It is 12.", "A dozen.")]
    assert "or neither" in command("tune", "collect", str(to), "--held-back", "0.4").err
    assert "supervised or dpo" in command("tune", "collect", str(to), "--method", "reinforcement").err


LAZYLLM = [{"context": "潮水六点来。", "question": "潮水几点来？", "answers": {"text": ["六点"]}}]


@pytest.mark.parametrize(
    ("format", "data", "roles", "last"),
    [
        ("alpaca", ALPACA, ["user", "assistant", "user", "assistant"], "harbour"),
        ("sharegpt", SHAREGPT, ["system", "user", "assistant"], "Ho"),
        ("lazyllm", LAZYLLM, ["user", "assistant"], "六点"),
        ("lazyllm", ALPACA, ["user", "assistant", "user", "assistant"], "harbour"),
    ],
)
@pytest.mark.parametrize("lines", [False, True])
def test_data_sets_of_others_become_examples(
    command: Command,
    tmp_path: Path,
    format: str,
    data: list[object],
    roles: list[str],
    last: str,
    lines: bool,
) -> None:
    source, target = tmp_path / "source.json", tmp_path / "out.jsonl"
    text = "\n".join(json.dumps(record) for record in data * 3) if lines else json.dumps(data * 3, indent=1)
    source.write_text(text, encoding="utf-8")
    assert (
        command("tune", "convert", str(source), str(target), "--from", format, "--json").json["examples"] == 3
    )
    conversations = [json.loads(line)["messages"] for line in target.read_text(encoding="utf-8").splitlines()]
    assert [message["role"] for message in conversations[0]] == roles
    assert conversations[2][-1]["content"] == last


def test_a_csv_file_is_read_by_a_mapping(command: Command, tmp_path: Path) -> None:
    source, target = tmp_path / "source.csv", tmp_path / "out.jsonl"
    source.write_text('question,good,bad\n"Who, me?",yes,no\n', encoding="utf-8")
    columns = ("--map", "user=question", "--map", "chosen=good", "--map", "rejected=bad")
    assert command("tune", "convert", str(source), str(target), "--from", "csv", *columns).code == 0
    pair = json.loads(target.read_text())
    assert pair["input"]["messages"][0]["content"] == "Who, me?"
    assert (pair["preferred_output"][0]["content"], pair["non_preferred_output"][0]["content"]) == (
        "yes",
        "no",
    )


@pytest.mark.parametrize(
    ("format", "text", "words"),
    [
        ("alpaca", '[{"instruction": "a"}]', "Example 1 of source does not match the format 'alpaca'"),
        ("sharegpt", '{"conversations": [{"from": "cat", "value": "x"}]}', "unknown speaker 'cat'"),
        ("alpaca", '[{"instruction": "a", "output": ', "not a complete JSON array"),
        ("csv", "a,b\n1,2\n", "Assign the columns"),
        ("parquet", "", "'parquet' is not a format"),
    ],
)
def test_a_wrong_data_set_is_named_and_nothing_is_written(
    command: Command, tmp_path: Path, format: str, text: str, words: str
) -> None:
    source, target = tmp_path / "source", tmp_path / "out.jsonl"
    source.write_text(text, encoding="utf-8")
    done = command("tune", "convert", str(source), str(target), "--from", format)
    assert done.code == 1
    assert words in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_loss_curve_has_the_given_width_and_tolerates_nan() -> None:
    assert curve([]) == ""
    assert curve([2.0, 2.0]) == "▁▁"
    assert curve([3.0, float("nan"), 2.0, 1.0]) == "█▅▁"
    assert len(curve([float(step) for step in range(1000)], 60)) == 60
    assert [lasts(seconds) for seconds in (None, 4.0, 600.0, 7200.0)] == ["", "4 s", "10 min", "2.0 h"]
