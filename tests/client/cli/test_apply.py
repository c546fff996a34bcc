"""`portico apply`: a running daemon reaches the state of a file; a second run changes nothing; nothing is removed
unasked.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import Client

ALL = """
models:
  - {name: poet, source: "fake://", description: "${WHO:-somebody}"}
stores:
  - {name: notes, folder: ./notes, description: What we noted}
tools:
  - {name: greet, command: [echo, "hello {name}"], parameters: {name: {type: string}}}
prompts:
  - {name: bye, messages: "Bye {name}.", arguments: [name]}
apps:
  - {name: outer, flow: {step: {op: subflow, app: inner}}}
  - {name: inner, file: inner.yaml, limits: {concurrency: 3}}
agents:
  - {name: clerk, model: poet, instructions: Be kind., stores: [notes]}
keys:
  - {name: site, key: "${KEY:-a-key-that-is-long-enough}", scopes: [chat]}
"""

INNER = """
portico_flow: 1
name: inner
step: {op: llm, model: poet, system: Write.}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("# A\nThe ferry leaves at nine.\n")
    (tmp_path / "inner.yaml").write_text(INNER)
    path = tmp_path / "portico.yaml"
    path.write_text(ALL)
    return path


@pytest.mark.slow
def test_applying_a_file_creates_its_objects_and_a_second_apply_changes_nothing(
    command: Command, file: Path, daemon: Daemon
) -> None:
    dry = command("apply", "-f", str(file), "--dry-run").out
    assert "+ models/poet" in dry and "+ apps/outer" in dry
    assert dry.endswith("7 would be created, 0 would be changed, 0 would be removed, 0 unchanged.\n")
    assert command("apps", "show", "inner").code == 1
    done = command("apply", "-f", str(file))
    assert done.out.endswith("7 created, 0 changed, 0 removed, 0 unchanged.\n"), done.err
    assert "Ignored: keys" in done.err
    with Client(daemon.url) as client:
        assert client.apps.run("outer", "a line") == "a line"
        assert client.apps.get("inner").limits == {"concurrency": 3}
        assert {"notes", "clerk", "inner", "outer"} <= {entry.name for entry in client.apps.list()}
    again = command("apply", "-f", str(file)).out
    assert again.endswith("0 created, 0 changed, 0 removed, 7 unchanged.\n"), again

    file.write_text(
        ALL.replace("${WHO:-somebody}", "a poet")
        .replace("What we noted", "What they noted")
        .replace("Be kind.", "Be brief.")
        .replace("hello {name}", "good day {name}")
        .replace("Bye {name}.", "So long, {name}.")
        .replace("concurrency: 3", "concurrency: 4")
    )
    output = command("apply", "-f", str(file)).out
    for line in (
        "~ models/poet (description)",
        "~ stores/notes (description)",
        "~ tools/greet (command)",
        "~ prompts/bye",
        "~ apps/inner (limits)",
        "~ apps/clerk (spec)",
    ):
        assert line in output, output
    assert output.endswith("0 created, 6 changed, 0 removed, 1 unchanged.\n")
    assert command("apply", "-f", str(file), "--json").json["changes"][0]["action"] == "unchanged"

    only = file.with_name("less.yaml")
    with Client(daemon.url) as client:
        client.models.alias("quill", "poet")
    only.write_text("apps: []\nprompts: []\ntools: []\naliases: []\n")
    assert command("apply", "-f", str(only)).out == "0 created, 0 changed, 0 removed, 0 unchanged.\n"
    unsure = command("apply", "-f", str(only), "--prune")
    assert unsure.code == 1 and "--yes" in unsure.err
    pruned = command("apply", "-f", str(only), "--prune", "--yes").out
    assert "- apps/clerk" in pruned and "- tools/greet" in pruned and "models" not in pruned
    assert "- aliases/quill" in pruned
    with Client(daemon.url) as client:
        assert "quill" not in {model.id for model in client.models.list()}
        assert {entry.name for entry in client.apps.list()} == {"handbook", "notes"}
        assert {prompt.origin for prompt in client.prompts.list()} == {"portico"}
        client.stores.remove("notes")
        client.deployments.remove("poet")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("apps: [{name: a, flow: {step: {op: llm, model: nobody}}}]", "The model 'nobody' does not exist"),
        ("modells: []", "Did you mean 'models'"),
        ("models: [{name: a, source: 'nonsense://'}]", "nonsense"),
        ("apps: [{name: a, file: none.yaml}]", "none.yaml does not exist"),
        ("prompts: ${NOT_SET_ANYWHERE}", "NOT_SET_ANYWHERE is not set"),
        ("- a", "must contain a mapping"),
    ],
)
def test_an_invalid_file_is_refused_before_any_change_is_applied(
    command: Command, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "portico.yaml"
    good = "" if "prompts" in text or text == "- a" else "prompts: [{name: good, messages: Hi.}]\n"
    path.write_text(good + text)
    done = command("apply", "-f", str(path))
    assert done.code == 1 and said in done.err
    assert command("prompts", "show", "good").code == 1
