"""`portico apps` and `portico run`: compose, run, deploy, change one part, compare, draw and roll back."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client
from portico.cli.complete import app_names

STORY = """
from portico.flow import flow, llm, pipeline, warp

HOUSE = object()


def here(text):
    return f"{text} (from {HOUSE is not None})"


story = flow(
    pipeline(
        titles=lambda topic: [f"{topic} {number}" for number in (1, 2)],
        chapters=warp(llm("default", system="Write.", user="Chapter {title}").named("write"))
        if False
        else warp(lambda title: title.upper()),
        book=lambda *chapters: " / ".join(chapters),
    ),
    name="story",
    description="Writes a handbook.",
)
answer = flow(pipeline(say=llm("default", system="Be kind.", user="Say {what}")), name="answer")
mine = pipeline(shout=here)
"""

SPEC = """
portico_flow: 1
name: greeting
input_schema: {type: object, properties: {name: {type: string}}, required: [name]}
step:
  op: code
  name: greet
  source: |
    def greet(value):
        return 'Hello ' + value['name']
"""


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "story.py"
    file.write_text(STORY, encoding="utf-8")
    return file


def test_a_flow_runs_undeployed_and_is_deployed_under_its_name(command: Command, story: Path) -> None:
    assert command("run", f"{story}:story", "bread").out == "BREAD 1 / BREAD 2\n"
    assert (
        command("run", f"{story}:story", "bread", "--dry-run").out
        == "'story' is valid and could run in this daemon.\n"
    )
    dry = command("apps", "deploy", f"{story}:story", "--dry-run").out
    assert "+++ story, " in dry and "+name: story" in dry
    assert command("apps", "show", "story").code == 1
    done = command("apps", "deploy", f"{story}:story", "--note", "the first")
    assert done.out == "'story' answers at version 1. Try: portico apps run story\n"
    assert command("apps", "deploy", f"{story}:story").out.startswith("'story' is unchanged at version 1.")
    assert command("apps", "run", "story", "bread").out == "BREAD 1 / BREAD 2\n"
    app_table = command("apps", "list").out
    assert "story\tflow\t1\tstory\tWrites a handbook." in app_table and "handbook\tstore" in app_table
    details = command("apps", "show", "story").out
    assert "Writes a handbook." in details and "flow" in details
    assert command("apps", "remove", "story", "--dry-run").out == "Would remove 'story'.\n"
    assert command("apps", "remove", "story", "--yes").out == "Removed 'story'.\n"
    assert command("apps", "show", "story").code == 1


def test_one_field_is_changed_compared_and_rolled_back(command: Command, story: Path, tmp_path: Path) -> None:
    command("apps", "deploy", f"{story}:answer")
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("Be brief.\nBe plain.", encoding="utf-8")
    assert command("apps", "set", "answer", f"say.system=@{prompt}").out == "'answer' is now at version 2.\n"
    changes = command("apps", "diff", "answer").out
    assert "-    system: Be kind." in changes and "+      Be plain." in changes
    assert command("apps", "diff", "answer", "2", "1").out.count("Be kind.") == 1
    assert command("apps", "diff", "answer", f"{story}:answer").out.count("Be kind.") == 1
    assert command("apps", "diff", "answer", "2", "2").out == "No differences.\n"
    assert command("apps", "set", "answer", "say.options.temperature=0.5", "--note", "warmer").code == 0
    _heading, *versions = command("apps", "versions", "answer").out.splitlines()
    assert versions[0].startswith("3\tyes") and versions[0].endswith("\twarmer")
    assert versions[1].endswith("\tset say.system")
    assert command("apps", "rollback", "answer").out == "'answer' is back at version 2.\n"
    assert command("apps", "rollback", "answer", "--to", "1").out == "'answer' is back at version 1.\n"
    assert command("apps", "run", "answer", '{"what": "hello"}', "--json").json["value"] == "Say hello"
    wrong = command("apps", "set", "answer", "sya.system=x")
    assert wrong.code == 1 and "'sya' was not found" in wrong.err and "Did you mean 'say'" in wrong.err
    assert "has no version 9" in command("apps", "diff", "answer", "9").err
    command("apps", "remove", "answer", "--yes")


def test_a_specification_in_yaml_takes_an_input_of_json(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "greeting.yaml"
    file.write_text(SPEC, encoding="utf-8")
    assert command("run", str(file), '{"name": "Ann"}').out == "Hello Ann\n"
    assert command("apps", "deploy", str(file), "--name", "hello").code == 0
    input_file = tmp_path / "input.json"
    input_file.write_text('{"name": "Bo"}', encoding="utf-8")
    assert command("apps", "run", "hello", "--input", str(input_file)).out == "Hello Bo\n"
    missing = command("apps", "run", "hello", "{}")
    assert missing.code == 1 and "'name' is a required property" in missing.err
    assert command("apps", "diff", "hello", str(file)).out == "No differences.\n"
    command("apps", "remove", "hello", "--yes")


def test_an_agent_is_deployed_from_a_file_of_either_kind(command: Command, tmp_path: Path) -> None:
    spec_file = tmp_path / "clerk.yaml"
    spec_file.write_text("portico_agent: 1\nname: clerk\ninstructions: Be kind.\n", encoding="utf-8")
    composed = tmp_path / "people.py"
    composed.write_text(
        'from portico.agent import Agent\nclerk = Agent("default", "Be brief.", name="clerk")\n'
    )
    assert command("apps", "deploy", str(spec_file)).code == 0
    assert "+instructions: Be brief." in command("apps", "deploy", f"{composed}:clerk", "--dry-run").out
    assert command("apps", "deploy", f"{composed}:clerk").out.startswith("'clerk' answers at version 2.")
    assert command("apps", "run", "clerk", "hello", "--json").json["value"]["content"] == "hello"
    assert command("apps", "run", "clerk", "hello").out == "hello\n"
    assert "is an agent. Deploy it" in command("run", f"{composed}:clerk").err
    spec_file.write_text("portico_agent: 1\nname: clerk\nmodel: nobody\n", encoding="utf-8")
    assert "nobody" in command("apps", "deploy", str(spec_file), "--dry-run").err
    command("apps", "remove", "clerk", "--yes")


def test_a_client_side_function_of_a_flow_is_called_in_the_command_process(
    command: Command, story: Path
) -> None:
    assert command("run", f"{story}:mine", "hi").out == "hi (from True)\n"
    response = command("apps", "deploy", f"{story}:mine", "--name", "mine")
    assert (
        response.code == 1
        and "no client currently serves" in response.err
        and "--serve-later" in response.err
    )
    done = command("apps", "deploy", f"{story}:mine", "--name", "mine", "--serve-later")
    assert (
        "The function 'here' stays in this process" in done.err and f"portico serve {story}:mine" in done.err
    )
    command("apps", "remove", "mine", "--yes")


def test_run_prints_streamed_text_and_then_a_different_final_value(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "loud.py"
    file.write_text(
        "from portico.flow import emit, pipeline\nloud = pipeline(say=emit('Working. '), n=lambda v: {'n': len(v)})\n"
    )
    assert command("run", f"{file}:loud", "four").out == 'Working. \n{\n  "n": 4\n}\n'
    assert command("run", f"{file}:loud", "four", "--json").json["value"] == {"n": 4}


def test_an_approval_step_of_a_run_prompts_at_the_terminal(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "careful.py"
    file.write_text(
        "from portico.flow import approve, pipeline\n"
        "careful = pipeline(ask=approve('Really?'), done=lambda v: f'{v} done')\n"
    )
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda *_args, **_more: True)
    assert command("run", f"{file}:careful", "it").out.endswith("it done\n")
    monkeypatch.setattr("typer.confirm", lambda *_args, **_more: False)
    result = command("run", f"{file}:careful", "it")
    assert result.code == 1 and "refused" in result.err.lower()


def test_an_app_is_drawn(command: Command, story: Path, tmp_path: Path) -> None:
    command("apps", "deploy", f"{story}:story")
    diagram = command("apps", "draw", "story").out
    assert diagram.startswith("flowchart TD\n") and "chapters (warp, each item, 8 concurrently)" in diagram
    assert command("apps", "draw", "story", "--json").json["mermaid"].strip() == diagram.strip()
    picture = tmp_path / "story.svg"
    assert command("apps", "draw", "story", "--svg", str(picture)).out == f"Drawn to {picture}.\n"
    texts = [item.text for item in ET.parse(picture).iter("{http://www.w3.org/2000/svg}text")]
    assert {"titles", "book", "input", "output"} <= set(texts)
    assert command("apps", "draw", "handbook").code == 1
    command("apps", "remove", "story", "--yes")


def test_an_app_is_held_to_limits(command: Command, story: Path, daemon: Daemon) -> None:
    command("apps", "deploy", f"{story}:story", "--name", "held")
    assert command("apps", "limit", "held", "requests_per_minute=1").out == (
        "'held' is limited to requests_per_minute=1.\n"
    )
    assert "requests_per_minute=1" in command("apps", "show", "held").out
    assert [command("apps", "run", "held", "a").code for _ in range(2)] == [0, 1]
    assert "for the app 'held' on requests per minute" in command("apps", "run", "held", "a").err
    with Client(daemon.url) as client:
        assert "for the app 'held'" in _refusal(client)
    assert "'speed' is not a limit" in command("apps", "limit", "held", "speed=2").err
    assert command("apps", "limit", "held").out == "'held' has no limits.\n"
    assert command("apps", "run", "held", "a").code == 0
    command("apps", "remove", "held", "--yes")


def _refusal(client: Client) -> str:
    from portico import PorticoError

    with pytest.raises(PorticoError) as caught:
        client.chat("a", "held").read()
    return caught.value.message


def test_app_names_are_completed_in_the_shell(
    command: Command, story: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("apps", "deploy", f"{story}:story")
    assert app_names(None, "st") == ["story"]  # type: ignore[arg-type]  # the context is not used
    command("apps", "remove", "story", "--yes")
    monkeypatch.setenv("PORTICO_URL", "http://127.0.0.1:1")
    assert app_names(None, "") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("none.yaml", "The file none.yaml does not exist"),
        ("none.py:flow", "The file none.py does not exist"),
        ("story", "does not name a flow: use FILE.py:NAME"),
        ("json:nothing", "There is no 'nothing' in 'json'"),
        ("json:JSONDecoder.nothing", "There is no 'JSONDecoder.nothing'"),
        ("nothing_here:flow", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_run_refuses_a_target_that_is_not_a_flow(command: Command, target: str, said: str) -> None:
    done = command("run", target)
    assert done.code == 1 and said in done.err


def test_run_and_deploy_refuse_a_file_without_a_valid_specification(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"name": "x"}))
    assert "neither 'portico_flow' nor 'portico_agent'" in command("run", str(file)).err
    file.write_text("{")
    assert "is not JSON" in command("run", str(file)).err
    yaml_file = tmp_path / "a.yaml"
    yaml_file.write_text("a: [")
    assert "is not valid YAML" in command("apps", "deploy", str(yaml_file)).err
