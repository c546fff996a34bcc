"""The examples of ``docs/examples`` and ``configs``, end to end: as flows, as deployed apps, as files that are run."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests import forked_python
from tests.daemon import ROOT, Daemon, environment, running

from portico import Client
from portico.flow import flow, llm, warp

FOLDER = ROOT / "docs" / "examples"
NAMES = ("chatbot", "rag", "story", "painter", "robot")
BOOK = "# Flour\nAll about flour.\n# Water\nAll about water."


def example(name: str) -> Any:
    """Return the flow of a Python file."""
    module_spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    assert module_spec is not None
    assert module_spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return getattr(module, name)


def run_file(name: str, served: Daemon, cwd: Path) -> str:
    """Run a Python file as a user does, and return its output."""
    command = [*forked_python.launcher(), str(FOLDER / f"{name}.py")]
    variables = environment(PORTICO_URL=served.url, PYTHONDONTWRITEBYTECODE="1", PATH=os.environ["PATH"])
    done = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(client: Client, app: str, text: str) -> str:
    """Return the answer of a deployed app, called as a model."""
    return client.chat(text, model=app).read().text


@pytest.mark.parametrize("name", NAMES)
def test_each_example_runs_without_client_side_functions(name: str) -> None:
    assert flow(example(name)).functions == {}


@pytest.mark.parametrize("name", NAMES)
def test_each_example_passes_the_check_and_equals_the_code_on_the_page(name: str, client: Client) -> None:
    assert client.check(flow(example(name), name=name)).error is None
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8").strip()
    assert source in (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")


class TestChatbot:
    def test_remembers_the_conversation(self, client: Client) -> None:
        talk = [
            {"role": "user", "content": "my name is Ada"},
            {"role": "assistant", "content": "Hello, Ada."},
            {"role": "user", "content": "Good day."},
        ]
        reply = client.chat(talk, model="chatbot").read()
        assert reply.text == "Good day."
        assert reply.usage.prompt_tokens > 2  # "Good day."; the earlier turns were sent along

    @pytest.mark.slow
    def test_the_python_file_deploys_it(self, served: Daemon, client: Client, tmp_path: Path) -> None:
        run_file("chatbot", served, tmp_path)
        assert said(client, "chatbot", "my name is Ada") == "Hello, Ada."


class TestRag:
    QUESTION = "Which port does the Lighthouse daemon use?"

    @pytest.mark.slow
    def test_answers_from_the_best_passage(self, client: Client) -> None:
        running = client.start(example("rag"), self.QUESTION)
        assert running.result() == "Port 7419."
        steps = {step.path: step for step in client.runs.trace(running.id or "", full=True)}
        formatted = steps["pipeline.formatter"].output
        assert "listens on port 7419" in formatted["context_str"]
        assert "Bread" not in formatted["context_str"]  # one passage remains, the best
        assert formatted["query"] == self.QUESTION

    def test_both_retrievers_give_to_the_sum(self, client: Client) -> None:
        running = client.start(example("rag"), "Let the dough rest overnight?")
        running.result()
        steps = {step.path: step for step in client.runs.trace(running.id or "", full=True)}
        outputs = [steps[f"pipeline.found.retrieve{number}"].output for number in (1, 2)]
        assert all(outputs)
        assert len(steps["pipeline.best"].output) == 1
        assert "dough" in steps["pipeline.best"].output[0]["text"]

    def test_from_yaml(self, client: Client) -> None:
        assert said(client, "rag", self.QUESTION) == "Port 7419."


class TestStory:
    def test_the_story_is_written_in_one_run(self, client: Client) -> None:
        assert client.run(example("story"), "A handbook of bread") == BOOK

    def test_from_yaml(self, client: Client) -> None:
        assert client.apps.run("story", "A handbook of bread") == BOOK
        assert said(client, "story", "A handbook of bread") == BOOK

    @pytest.mark.slow
    def test_the_python_file_runs_and_deploys_it(
        self, served: Daemon, client: Client, tmp_path: Path
    ) -> None:
        assert run_file("story", served, tmp_path).strip() == BOOK
        assert client.apps.versions("story")[0].version == 2


def drawn(client: Client, result: Any) -> bytes:
    """Return the picture of a run's answer, given as JSON or Markdown."""
    if isinstance(result, str):
        return linked(client, result, mark="!")
    return client.artifacts.content(result["pictures"][0]["id"])


def linked(client: Client, markdown: str, *, mark: str = "") -> bytes:
    """Return the content of the only file that an answer links to."""
    link_match = re.fullmatch(rf"{mark}\[[^\]]+\]\(/api/artifacts/(art_[^/]+)/content\)", markdown)
    assert link_match is not None, markdown
    return client.artifacts.content(link_match[1])


class TestPainter:
    WORDS = b"a cat by the sea"

    def test_one_model_writes_for_the_other(self, client: Client) -> None:
        picture = drawn(client, client.run(example("painter"), "一只海边的猫"))
        assert picture.startswith(b"\x89PNG") and self.WORDS in picture
        assert self.WORDS in drawn(client, said(client, "painter", "一只海边的猫"))


class TestRobot:
    @pytest.mark.parametrize(
        ("wish", "answer"),
        [
            ("你好", "你好!"),
            ("图里有什么?", "[what is in the picture]"),
        ],
    )
    def test_each_wish_is_routed_to_the_matching_model(self, client: Client, wish: str, answer: str) -> None:
        assert said(client, "robot", wish) == answer

    def test_speaks_and_makes_music(self, client: Client) -> None:
        for request_text, inside in (("写一首歌", "a song"), ("朗读这句话", "朗读这句话")):
            sound = linked(client, said(client, "robot", request_text))
            assert inside in client.audio.transcribe(sound, "SenseVoiceSmall").text

    def test_writes_down_what_is_said_in_a_file(self, client: Client) -> None:
        recording = client.audio.speak("听写: 你好 世界", "ChatTTS")
        file = client.files.add(recording, filename="听写.wav")
        assert said(client, "robot", f"请听写 {file.id}") == "听写: 你好 世界"

    def test_writes_down_a_recording_that_came_with_the_message(self, client: Client) -> None:
        sound = base64.b64encode(client.audio.speak("你好 世界", "ChatTTS")).decode()
        recording = {"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}
        for content in ([recording], [{"type": "text", "text": "请听写"}, recording]):
            reply = client.chat([{"role": "user", "content": content}], model="robot").read()
            assert reply.text == "你好 世界"

    def test_the_robot_draws_a_picture_from_python_and_from_yaml(self, client: Client) -> None:
        assert b"a dog" in drawn(client, client.run(example("robot"), "画一只狗"))
        assert b"a cat" in drawn(client, said(client, "robot", "画一只猫"))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_examples_run_with_the_embedded_model(tmp_path: Path) -> None:
    """The model of 135 million parameters serves the steps; its wording is not checked."""
    text = (ROOT / "configs" / "painter.yaml").read_text(encoding="utf-8")
    short = text.replace("aliases: [default]}", "aliases: [default], defaults: {max_tokens: 24}}")
    assert short != text
    configuration = tmp_path / "painter.yaml"
    configuration.write_text(short, encoding="utf-8")
    with running(tmp_path / "data", "--file", str(configuration)) as daemon:
        daemon.settle()
        with Client(daemon.url, timeout=200) as client:
            client.apps.deploy("chatbot", example("chatbot"))
            assert said(client, "chatbot", "Say hello.")
            assert drawn(client, said(client, "painter", "一只海边的猫")).startswith(b"\x89PNG")
            sections = [{"title": "# Flour", "describe": "What flour is."}] * 2
            chapters = warp(llm("default", user="{title}\n{describe}"))
            assert len(client.run(chapters, sections)) == 2
