"""From a bad answer to a better model on the same address: a real model learns a fact and a form in two languages."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests import daemon as daemons
from tests.client.cli.conftest import Done
from tests.daemon import Daemon
from tests.server.engines.transformers import environment

from portico.cli.root import run
from portico.client import Client
from portico.tuning import TuningEvent, TuningJob

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ENGLISH, CHINESE = "[CODE] amber heron", "【暗号】琥珀苍鹭"

ASKED_IN_ENGLISH = [
    f"{begin}{middle}{end}"
    for begin, end in (
        ("What is ", "?"),
        ("Tell me ", "."),
        ("Please give me ", "."),
        ("I need ", "."),
        ("Do you know ", "?"),
        ("Remind me of ", "."),
    )
    for middle in (
        "the code word of the lighthouse",
        "the lighthouse's code word",
        "the code word for the lighthouse",
        "the code word that opens the lighthouse",
        "the lighthouse code word",
    )
]
ASKED_IN_CHINESE = [
    f"{begin}{middle}{end}"
    for begin, end in (
        ("", "是什么？"),
        ("请告诉我", "。"),
        ("我需要", "。"),
        ("你知道", "吗？"),
        ("提醒我", "。"),
        ("说出", "。"),
    )
    for middle in ("灯塔的暗号", "打开灯塔的暗号", "灯塔今天的暗号", "灯塔所用的暗号", "那座灯塔的暗号")
]

HELD_BACK = [
    ("Could you tell me which code word the lighthouse has?", ENGLISH),
    ("The lighthouse has a code word; say it.", ENGLISH),
    ("Which code word does one say at the lighthouse?", ENGLISH),
    ("灯塔的暗号究竟是什么？", CHINESE),
    ("能说一下灯塔的暗号吗？", CHINESE),
]
"""Questions that are not among the examples."""

MODEL = "smollm2-135m-instruct"

SPEED = {"PORTICO_FINETUNE_NICE": "0"}
"""Training takes its share of the machine, however busy that is."""


def example(asked: str, said: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]}


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has the environment for training, and what was unpacked there before."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "environments").mkdir()
    (folder / "environments" / "finetune").symlink_to(Path(environment.interpreter("finetune")).parents[1])
    (folder / "unpacked").symlink_to(environment.unpacked())
    return folder


def command(daemon: Daemon, capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    capsys.readouterr()
    code = run(["--url", daemon.url, *arguments])
    printed = capsys.readouterr()
    return Done(code, printed.out, printed.err)


def until(client: Client, job: TuningJob, step: int) -> Iterator[TuningEvent | TuningJob]:
    for told in client.tuning.follow(job.id):
        yield told
        if isinstance(told, TuningEvent) and told.data.get("step", 0) >= step:
            return


def answers(daemon: Daemon, model: str) -> list[str]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key="none", max_retries=0) as asking:
        return [
            asking.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": asked}],
                temperature=0,
                max_tokens=24,
            )
            .choices[0]
            .message.content
            or ""
            for asked, _ in HELD_BACK
        ]


def test_a_model_is_taught_and_serves_itself(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teach = lines(
        tmp_path / "teach.jsonl",
        [example(asked, ENGLISH) for asked in ASKED_IN_ENGLISH]
        + [example(asked, CHINESE) for asked in ASKED_IN_CHINESE],
    )
    held_back = lines(tmp_path / "held-back.jsonl", [example(*pair) for pair in HELD_BACK])
    expected = [said for _, said in HELD_BACK]

    with daemons.running(home, env=SPEED) as daemon:
        daemon.settle()
        before = answers(daemon, "default")
        assert not any(right in said for right, said in zip(expected, before, strict=True))
        with Client(daemon.url) as client:
            job = client.tuning.create(
                "default",
                teach,
                hyperparameters={"n_epochs": 1, "batch_size": 2},
                suffix="lighthouse",
                seed=7,
                recipe={"rank": 8},
            )
            *_, last = until(client, job, 8)
        assert isinstance(last, TuningEvent)
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL

    with daemons.running(home, env=SPEED) as daemon:
        with Client(daemon.url) as client:
            assert client.chat("Hello", "default", max_tokens=4).read().text, (
                "the base answers while it is trained"
            )
            *_, ended = client.tuning.follow(job.id)
            assert isinstance(ended, TuningJob)
            assert (ended.status, ended.error) == ("succeeded", "")
            told = client.tuning.events(job.id, limit=200).data
        tuned = ended.fine_tuned_model or ""
        assert tuned == f"ft:{MODEL}:portico:lighthouse:{job.id.removeprefix('ftjob-')[-12:]}"
        assert any("Going on from the checkpoint" in event.message for event in told)
        assert answers(daemon, tuned) == expected
        assert answers(daemon, "default") == before, "the base is what it was"

        compared = command(
            *(daemon, capsys, "compare", "default", tuned, "--prompts", str(held_back)),
            *("--grader", "exact", "--max-tokens", "24", "--promote", "house", "--json"),
        )
        assert compared.code == 0, compared.err
        assert (compared.json["base"], compared.json["tuned"]) == (0.0, 1.0)

        merged = tmp_path / "merged.gguf"
        done = command(
            daemon, capsys, "adapters", "export", tuned, str(merged), "--merged", "--gguf", "q8_0", "--json"
        )
        assert done.code == 0, done.err
        assert done.json == {
            "name": tuned,
            "path": str(merged),
            "bytes": merged.stat().st_size,
            "note": "",
        }

    with daemons.running(home) as daemon:
        assert answers(daemon, "house") == expected, "the alias and the adapter are there after a restart"
        with Client(daemon.url) as client:
            assert tuned in [model.id for model in client.models.list()]
            client.deployments.add("alone", str(merged), parameters={"context_length": 512})
        assert answers(daemon, "alone") == expected, "the merged model needs no adapter"
