"""The nine files and thirty questions of ``bench/stranger``, asked through the public API and on a terminal."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from tests import daemon as daemons
from tests.client.cli.terminal import Terminal

BENCH = daemons.ROOT / "bench"
FILES = BENCH / "stranger" / "files"

QUESTIONS = {
    "What does a rye loaf cost?": "4.60",
    "Which supplier delivers the honey?": "Imkerei Roth",
    "What does a bus ticket cost?": "This is not in these documents.",
}


@pytest.mark.slow
def test_a_stranger_gets_an_answer_or_a_refusal(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    line = [sys.executable, str(BENCH / "stranger.py"), "--json", str(report)]
    done = subprocess.run(
        line, env=daemons.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(report.read_text(encoding="utf-8"))["rows"]
    assert row["questions"] == 30
    assert row["right"] + row["refused"] >= 28, done.stdout
    assert row["unused citations"] == 0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("stranger")
    config = root / "portico.yaml"
    config.write_text(
        "models:\n  - {name: small, source: 'fake://', aliases: [default], answers: quote}\n"
        f"stores:\n  - {{name: stranger, folder: {FILES}}}\n"
    )
    with daemons.running(root / "home", "--file", str(config)) as daemon:
        daemon.settle()
        yield daemon.url


@pytest.mark.parametrize(
    ("question", "answer", "end"),
    [
        (
            "What does a rye loaf cost?",
            "Loaf: Rye loaf · Weight: 1000 g · Price: 4.60 · Baked on: every day [1]",
            "Rye loaf · 1000 g · 4.60 · every day",
        ),
        ("Which supplier delivers the honey?", "Supplier: Imkerei Roth · Goods: Honey", "Imkerei Roth"),
        ("What does a bus ticket cost?", "This is not in these documents.", "Nearest passages: products.md"),
    ],
)
def test_a_terminal_shows_no_raw_markdown(url: str, question: str, answer: str, end: str) -> None:
    terminal = Terminal(url, "ask", question)
    terminal.until(answer)
    terminal.until(end)
    terminal.until("\n")
    assert "|" not in terminal.seen and "\n>" not in terminal.seen
    assert terminal.process.wait(60) == 0


@pytest.mark.model
def test_the_built_in_model_answers_a_file_search(tmp_path: Path) -> None:
    config = tmp_path / "portico.yaml"
    config.write_text(f"stores:\n  - {{name: stranger, folder: {FILES}}}\n")
    with daemons.running(tmp_path / "home", "--file", str(config)) as daemon:
        daemon.settle()
        with OpenAI(base_url=f"{daemon.url}/v1", api_key="local", timeout=60, max_retries=0) as client:
            for question, words in QUESTIONS.items():
                answer = client.responses.create(
                    model="default",
                    input=question,
                    tools=[{"type": "file_search", "vector_store_ids": ["stranger"]}],
                )
                assert answer.status == "completed"
                search, message = answer.output
                assert search.type == "file_search_call" and search.queries == [question]
                assert message.type == "message" and message.content[0].type == "output_text"
                assert words in answer.output_text
                assert bool(message.content[0].annotations) == ("not in these" not in words)
