"""The cases of every bundled prompt, put to a scripted model; a wrong answer fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests import daemon as daemons
from tests.daemon import Daemon

from portico import AsyncClient, Client
from portico.schemas.evals import EvalRun
from portico_server.core.prompts import builtin

MAX_CONCURRENT_EVALS = 4


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon whose model ``apt`` gives the right answer to each case of each prompt."""
    home = tmp_path_factory.mktemp("home")
    rules = []
    for spec in builtin.every():
        for case in spec.cases:
            question = str(spec.render(case.arguments)[-1]["content"])
            rules.append({"match": f"^{re.escape(question)}$", "content": case.answer.replace("\\", "\\\\")})
    script = home / "apt.yaml"
    script.write_text(yaml.safe_dump(rules, allow_unicode=True), encoding="utf-8")
    models = [
        {"name": "apt", "source": f"fake://{script}", "aliases": ["default"]},
        {"name": "dull", "source": "fake://", "parameters": {"script": [{"content": "I do not know."}]}},
    ]
    file = home / "models.yaml"
    file.write_text(yaml.safe_dump({"models": models}), encoding="utf-8")
    with daemons.running(home / "data", "--file", str(file)) as running:
        yield running


@pytest.mark.slow
async def test_every_case_of_every_prompt_passes_with_a_right_answer(served: Daemon) -> None:
    slots = asyncio.Semaphore(MAX_CONCURRENT_EVALS)
    async with AsyncClient(served.url, timeout=120) as client:

        async def run(name: str) -> tuple[str, EvalRun]:
            async with slots:
                return name, await client.prompts.evaluate(name, "apt")

        names = [prompt.name for prompt in await client.prompts.list() if prompt.origin == "portico"]
        done = await asyncio.gather(*map(run, names))
    assert len(done) == len(builtin.every())
    failures = {
        name: run.error or run.result_counts for name, run in done if run.result_counts["passed"] != run.items
    }
    assert failures == {}


def test_a_wrong_answer_does_not_pass(served: Daemon) -> None:
    with Client(served.url) as client:
        run = client.prompts.evaluate("portico/answer", "dull")
        assert (run.status, run.items, run.result_counts["passed"]) == ("completed", 2, 0)
        assert client.evals.get(run.eval_id).name == "portico/answer version 1"


def test_bundled_prompts_are_listed_with_their_arguments_and_cases(served: Daemon) -> None:
    with Client(served.url) as client:
        prompts = {prompt.name: prompt for prompt in client.prompts.list()}
    translate = prompts["portico/translate.zh"]
    assert translate.description.endswith("In Chinese.") and translate.cases[0]["answer"] == "渡轮中午开。"
    assert [argument["name"] for argument in translate.arguments] == ["text", "language"]


def test_an_edited_bundled_prompt_keeps_its_changes_after_a_restart(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "data") as running, Client(running.url) as client:
        spec = client.prompts.get("portico/proofread")
        client.prompts.save("portico/proofread", arguments=["text"], messages="Correct this: {text}")
        client.prompts.remove("portico/translate")
    with daemons.running(tmp_path / "data") as running, Client(running.url) as client:
        prompt = client.prompts.get("portico/proofread")
        assert (prompt.version, prompt.messages[0]["content"]) == (2, "Correct this: {text}")
        assert client.prompts.get("portico/proofread", 1).messages == spec.messages
        assert client.prompts.get("portico/translate").version == 1
