"""Invalid requests are refused at once; invalid entries of a configuration are left out, and the rest is served."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests.browser import CHROMIUM, browser
from tests.daemon import Daemon, environment
from tests.tui.terminal import terminal
from textual.widgets import Static

from portico import Client
from portico.errors import InvalidRequest
from portico_tui.widgets.dialogs import Form

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]

CONFIGURATION = """
models:
  - {name: nonsense, source: nonsense}
  - {name: echo, source: "fake://", aliases: [default]}
  - {name: gone, source: "file:///nowhere/model.gguf"}
  - {name: odd, source: "fake://", task: dancing}
  - {name: typo, sorce: "fake://"}
  - {name: wide, source: "fake://", aliases: [default-embedding], parameters: {scrip: []}}
stores: []
aliases:
  - {name: trial, target: echo, canary: {target: gone, weight: 0.5}}
  - {name: helper, target: echo, canary: {target: odd, weight: 0.5}}
"""

PLACES = {
    "nonsense": "models[0].source",
    "gone": "models[2].source",
    "odd": "models[3].task",
    "typo": "models[4].sorce",
    "wide": "models[5].parameters",
    "helper": "aliases[1].canary.target",
}


@pytest.fixture(scope="module")
def partly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon started with `CONFIGURATION`."""
    home = tmp_path_factory.mktemp("partly")
    (home / "portico.yaml").write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        yield running


def test_invalid_models_are_listed_in_the_status_while_the_others_serve(partly: Daemon) -> None:
    with Client(partly.url) as client:
        status = client.status()
        assert {problem.name: problem.place for problem in status.problems} == PLACES
        reasons = {problem.name: problem.reason for problem in status.problems}
        assert reasons["nonsense"].startswith("'nonsense' is not a model source")
        assert reasons["odd"].startswith("The task of the model 'odd' is 'dancing'")
        assert reasons["wide"].endswith("Until it is fixed, 'default-embedding' means 'wordllama-256'.")
        assert client.chat("Good morning.").read().text == "Good morning."
        names = {model.name for model in status.models}
        # A file may appear later, when its disk is mounted: its model waits for it.
        assert "gone" in names and not names & {"nonsense", "odd", "typo", "wide"}
        [canary] = client.canaries.list()
        assert (canary.alias, canary.status, canary.weight, canary.key) == ("trial", "running", 0.5, "system")


def test_the_command_line_shows_skipped_models_and_problems(partly: Daemon) -> None:
    done = subprocess.run(
        [*COMMAND, "status"],
        env=environment(PORTICO_URL=partly.url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for name, place in PLACES.items():
        outcome = "left out" if place.startswith("models") else "problem"
        assert f"{outcome}: {name} ({place}): " in done.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
async def test_the_web_page_shows_configuration_problems(partly: Daemon, tmp_path: Path) -> None:
    async with browser(tmp_path / "profile") as page:
        await page.open(partly.url)
        await page.until("document.querySelector('#problems')?.textContent.includes('models[0].source')")


async def test_the_terminal_ui_shows_configuration_problems_and_refuses_an_invalid_model(
    partly: Daemon,
) -> None:
    async with terminal(partly.url) as screen:
        await screen.until(
            lambda: "models[0].source" in str(screen.app.screen.query_one("#detail", Static).render())
        )
        await screen.press("a")
        await screen.until(lambda: isinstance(screen.app.screen, Form))
        await screen.type("worse")
        await screen.type("nonsense")
        await screen.until(lambda: screen.told)
        assert "'nonsense' is not a model source" in screen.told[-1]


@pytest.mark.parametrize(
    "source", ["nonsense", "carrier://pigeon", "file:///nowhere/model.gguf", "hf://only"]
)
def test_an_invalid_model_source_is_refused_immediately(partly: Daemon, source: str) -> None:
    deployment_body = {"name": "worse", "source": source}
    answer = httpx.post(f"{partly.url}/api/deployments", json=deployment_body, timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "source")
    with Client(partly.url) as client:
        with pytest.raises(InvalidRequest):
            client.deployments.add("worse", source)
        assert "worse" not in {model.name for model in client.status().models}
    done = subprocess.run(
        [*COMMAND, "models", "add", "worse", "--source", source],
        env=environment(PORTICO_URL=partly.url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and answer.json()["error"]["message"].split(" Did")[0] in done.stderr


def test_a_path_on_the_command_line_is_relative_to_where_it_is_typed(partly: Daemon, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    done = subprocess.run(
        [*COMMAND, "models", "add", "near", "--source", "./m.gguf"],
        env=environment(PORTICO_URL=partly.url),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    with Client(partly.url) as client:
        assert client.deployments.get("near").source == str(tmp_path / "m.gguf")
        client.deployments.remove("near")


def test_applying_a_partly_invalid_configuration_changes_nothing(partly: Daemon, tmp_path: Path) -> None:
    apply_body = {
        "configuration": {
            "models": [{"name": "good", "source": "fake://"}, {"name": "bad", "source": "nonsense"}]
        }
    }
    answer = httpx.post(f"{partly.url}/api/apply", json={**apply_body, "folder": str(tmp_path)}, timeout=60)
    assert answer.status_code == 400
    with Client(partly.url) as client:
        assert "good" not in {model.name for model in client.status().models}


BAD_STORE = """
models:
  - {name: echo, source: "fake://", aliases: [default]}
  - {name: near, source: nonsense, task: embedding}
stores:
  - {name: shelf, folder: ./shelf, embedding_model: near}
  - {name: box, embedding_model: nearr, groups: [{name: lines, strategy: lines, embedding_model: near}]}
"""


@pytest.fixture
def modelless(tmp_path: Path) -> Iterator[Daemon]:
    """Yield a daemon with stores whose embedding model was left out."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "tide.md").write_text("The tide comes in at six o'clock.\n", encoding="utf-8")
    (tmp_path / "portico.yaml").write_text(BAD_STORE, encoding="utf-8")
    with daemons.running(tmp_path / "data", "--file", str(tmp_path / "portico.yaml")) as running:
        running.settle()
        yield running


def said(daemon: Daemon, *arguments: str) -> str:
    """Return the output of a command."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environment(PORTICO_URL=daemon.url),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_store_with_a_missing_embedding_model_serves_and_reports_the_problem(
    modelless: Daemon,
) -> None:
    with Client(modelless.url) as client:
        problems = {problem.place: problem for problem in client.status().problems}
        assert set(problems) == {
            "models[1].source",
            "stores[0].embedding_model",
            "stores[1].embedding_model",
            "stores[1].groups[0].embedding_model",
        }
        assert problems["stores[0].embedding_model"].name == "shelf"
        assert problems["stores[0].embedding_model"].reason.startswith(
            "'near' is not an available embedding model."
        )
        assert "It was omitted: models[1].source." in problems["stores[0].embedding_model"].reason
        assert client.stores.search("shelf", "When does the tide come in?").passages
        assert client.stores.get("shelf").embedding_model != "near"
        assert (client.stores.get("shelf").problem or "").startswith("stores[0].embedding_model: ")
        assert "problem: shelf (stores[0].embedding_model): 'near' is not" in said(modelless, "status")
        assert "stores[0].embedding_model: 'near' is not" in said(modelless, "stores", "show", "shelf")
        assert "shelf (stores[0].embedding_model): 'near' is not" in said(modelless, "doctor")

        client.deployments.add("near", "fake://", task="embedding")
        assert [problem.place for problem in client.status().problems] == ["stores[1].embedding_model"]
        store = client.stores.get("shelf")
        assert store.problem is None and "near" in (store.embedding_model, store.next_embedding_model)
        client.stores.remove("box")
        assert client.status().problems == ()


@pytest.mark.slow
def test_a_mended_configuration_takes_the_problems_away(modelless: Daemon, tmp_path: Path) -> None:
    mended = BAD_STORE.replace("nonsense", '"fake://"').replace("nearr", "near")
    (tmp_path / "mended.yaml").write_text(mended, encoding="utf-8")
    said(modelless, "apply", "-f", str(tmp_path / "mended.yaml"), "--yes")
    with Client(modelless.url) as client:
        assert client.status().problems == ()
        for name in ("shelf", "box"):
            store = client.stores.get(name)
            assert store.problem is None and "near" in (store.embedding_model, store.next_embedding_model)


def test_several_may_apply_the_same_configuration_at_once(partly: Daemon, tmp_path: Path) -> None:
    groups = [{"name": f"lines{number}", "strategy": "lines"} for number in range(8)]
    apply_body = {
        "configuration": {"stores": [{"name": "shelf", "groups": groups}]},
        "folder": str(tmp_path),
    }

    def apply(_number: int) -> httpx.Response:
        return httpx.post(f"{partly.url}/api/apply", json=apply_body, timeout=60)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(apply, range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8, [answer.text for answer in answers]
    with Client(partly.url) as client:
        assert len([group for group in client.stores.groups("shelf") if group.name.startswith("lines")]) == 8
        client.stores.remove("shelf")


def test_an_embedding_model_that_is_nowhere_is_refused_with_its_place(
    modelless: Daemon, tmp_path: Path
) -> None:
    configuration = {"stores": [{"name": "shelf", "embedding_model": "nowhere"}]}
    answer = httpx.post(
        f"{modelless.url}/api/apply",
        json={"configuration": configuration, "folder": str(tmp_path)},
        timeout=60,
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "stores[0].embedding_model"


def test_the_answers_setting_of_a_model_accepts_only_four_values(partly: Daemon) -> None:
    deployment_body = {"name": "reader", "source": "fake://"}
    answer = httpx.post(
        f"{partly.url}/api/deployments", json={**deployment_body, "answers": "wirte"}, timeout=60
    )
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "answers")
    assert "auto, test, write, quote. Did you mean 'write'?" in answer.json()["error"]["message"]
    for word, answers_value in (("auto", "write"), ("test", None), ("quote", "quote")):
        response = httpx.post(
            f"{partly.url}/api/deployments", json={**deployment_body, "answers": word}, timeout=60
        )
        assert response.status_code == 200, response.text
        deployment = httpx.get(f"{partly.url}/api/deployments/reader", timeout=60).json()
        assert deployment["answers"] == answers_value  # the result of the self-test, once it has run
        httpx.delete(f"{partly.url}/api/deployments/reader", timeout=60)


WAITING = """
apps:
  - {name: outer, flow: {portico_flow: 1, name: outer, step: {name: ask, op: subflow, app: inner}}}
  - {name: inner, flow: {portico_flow: 1, name: inner, step: {name: say, op: tool, tool: greet}}}
tools:
  - {name: greet, command: [echo, hello], parameters: {}}
"""


def test_an_app_is_created_after_the_app_and_tool_it_needs(tmp_path: Path) -> None:
    (tmp_path / "portico.yaml").write_text(WAITING, encoding="utf-8")
    with (
        daemons.running(tmp_path / "data", "--file", str(tmp_path / "portico.yaml")) as daemon,
        Client(daemon.url) as client,
    ):
        for _ in range(2_000):  # tools appear shortly after the start
            if "outer" in {app.name for app in client.apps.list()}:
                break
        assert client.apps.run("outer", {})["stdout"] == "hello\n"
