"""`portico compare`: the same questions to two models, graded, and an alias that moves only to the better one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

MODELS = r"""
models:
  - name: house
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "code word", content: ["I do not know."]}]}
  - name: better
    source: "fake://"
    parameters:
      script:
        - {match: "code word", content: ["[CODE] amber"]}
        - {match: "暗号", content: ["【暗号】琥珀"]}
  - name: judge
    source: "fake://"
    parameters:
      script:
        - {match: "Answer A:\\n\\[CODE\\]", content: ['{"better": "A"}']}
        - {match: "Answer B:\\n\\[CODE\\]", content: ['{"better": "B"}']}
        - {match: "Which", content: ['{"better": "A"}']}
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    configuration = home / "test.yaml"
    configuration.write_text(MODELS, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration)) as running:
        yield running


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "held-back.jsonl"
    lines = [
        {
            "messages": [
                {"role": "user", "content": "Which code word?"},
                {"role": "assistant", "content": "[CODE] amber"},
            ]
        },
        {"prompt": "暗号是什么？", "expected": "琥珀"},
    ]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8")
    return path


def test_compare_prints_the_answers_side_by_side_with_scores(command: Command, prompts: Path) -> None:
    done = command("compare", "house", "better", "--prompts", str(prompts))
    assert done.code == 0
    _heading, first, second, *shares = done.out.splitlines()
    assert first == "Which code word?\tI do not know.\t[CODE] amber\tsecond"
    assert second.endswith("【暗号】琥珀\tsecond")
    assert shares == ["house: 0%", "better: 100%"]


def test_exact_is_stricter_than_contains(command: Command, prompts: Path) -> None:
    done = command(
        "compare", "house", "better", "--prompts", str(prompts), "--grader", "exact", "--json"
    ).json
    assert (done["base"], done["tuned"], done["promoted"]) == (0.0, 0.5, None)
    assert [row["tuned_score"] for row in done["data"]] == [1.0, 0.0]


def test_an_alias_is_promoted_only_to_a_better_model(command: Command, prompts: Path) -> None:
    promotion_options = ("--prompts", str(prompts), "--promote", "default")
    refusal = command("compare", "better", "house", *promotion_options)
    assert refusal.code == 1
    assert "'default' was not changed" in refusal.err
    refusal = command(
        "compare", "house", "better", *promotion_options, "--grader", "exact", "--at-least", "0.9"
    )
    assert refusal.code == 1 and "at least 90%" in refusal.err
    assert command("models", "show", "default", "--json").json["name"] == "house"
    done = command("compare", "house", "better", *promotion_options)
    assert done.code == 0 and done.out.endswith("'default' is now 'better'.\n")
    assert command("models", "show", "default", "--json").json["name"] == "better"


def test_a_judge_that_goes_by_the_order_decides_nothing(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "questions.txt"
    path.write_text("Which code word?\n\nWhich way?\n", encoding="utf-8")
    done = command("compare", "house", "better", "--prompts", str(path), "--judge", "judge", "--json").json
    assert [(row["base_score"], row["tuned_score"]) for row in done["data"]] == [(0.0, 1.0), (0.5, 0.5)]
    assert done["tuned"] == 0.75


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "contains no prompts"), ("{", "Line 1 is not JSON"), ("ok\n{}", "Line 2 has neither")],
)
def test_a_file_without_prompts_is_refused(command: Command, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    done = command("compare", "house", "better", "--prompts", str(path))
    assert done.code == 1 and said in done.err
