"""`portico prompts`: import, show, fill in, remove."""

from __future__ import annotations

from pathlib import Path

from tests.client.cli.conftest import Command

TRANSLATE = """---
description: Puts a text into another language.
arguments:
  - {name: text, required: true}
  - {name: times, type: integer, default: 1}
---
# system
Say it {times} times.

# user
{text}
"""


def test_a_folder_is_imported_shown_and_filled_in(command: Command, tmp_path: Path) -> None:
    (tmp_path / "translate.md").write_text(TRANSLATE, encoding="utf-8")
    (tmp_path / "README.md").write_text("# Prompts")
    assert "\ntranslate\t" not in command("prompts", "list").out
    assert command("prompts", "import", str(tmp_path), "--dry-run").out == "Would be added: translate\n"
    assert command("prompts", "import", str(tmp_path)).out == "added: translate\n"
    assert command("prompts", "import", str(tmp_path / "translate.md")).out == "unchanged: translate\n"
    assert "\ntranslate\t1\ttext" in command("prompts", "list").out
    details = command("prompts", "show", "translate").out
    assert (
        "times\tinteger\t\t1" in details and "Say it {times} times." in details and str(tmp_path) in details
    )
    rendered = command("prompts", "render", "translate", "text=42", "times=3", "--json").json
    assert [message["content"] for message in rendered["messages"]] == ["Say it 3 times.", "42"]
    wrong = command("prompts", "render", "translate", "text=x", "times=often")
    assert wrong.code == 1 and "arguments.times must be an integer" in wrong.err
    assert command("prompts", "remove", "translate", "--yes").out == "Removed 'translate'.\n"


def test_a_built_in_prompt_is_shown_exported_and_tried(command: Command, tmp_path: Path) -> None:
    details = command("prompts", "show", "portico/translate").out
    assert (
        "from     portico" in details and "\nexample\n" in details and "The ferry leaves at noon." in details
    )
    names = ("portico/translate", "portico/answer.zh")
    assert (
        command("prompts", "export", *names, "--to", str(tmp_path / "out"), "--format", "dotprompt").code == 0
    )
    exported_files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").iterdir()}
    assert set(exported_files) == {"portico-translate.prompt", "portico-answer.zh.prompt"}
    assert '{{role "system"}}' in exported_files["portico-translate.prompt"]
    assert command("prompts", "export", names[0], "--format", "langchain").out.startswith('{\n  "lc": 1')
    evaluation = command("prompts", "eval", "portico/write-sql")
    assert evaluation.code == 1 and "0 of 1 answers" in evaluation.out, "the model echoes the question"


def test_a_prompt_is_written_on_the_command_line(command: Command) -> None:
    text = "Say {{hello}} to {name} in {language}, {name}."
    assert command("prompts", "add", "hi", text).out == "'hi' is now at version 1.\n"
    assert (
        command("prompts", "add", "hi", text, "--system", "Be {mood}.").out == "'hi' is now at version 2.\n"
    )
    assert command("prompts", "history", "hi", "--json").json["data"][1]["version"] == 1
    assert command("prompts", "history", "hi").out.splitlines()[1].startswith("2\t")
    rendering = command("prompts", "render", "hi", "name=Ann", "language=Basque", "mood=kind").out
    assert "Say {hello} to Ann in Basque, Ann." in rendering and "Be kind." in rendering
    missing = command("prompts", "render", "hi", "name=Ann", "--version", "1")
    assert missing.code == 1 and "needs the argument 'language'" in missing.err
    assert command("prompts", "remove", "hi", "--dry-run").out == "Would remove 'hi'.\n"
    assert command("prompts", "remove", "hi", "--yes").code == 0


def test_an_invalid_prompt_import_source_is_refused(command: Command, tmp_path: Path) -> None:
    assert (
        f"The file or folder {tmp_path / 'none'} does not exist"
        in command("prompts", "import", str(tmp_path / "none")).err
    )
    assert "There are no .yaml, .yml, .md" in command("prompts", "import", str(tmp_path)).err
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in command("prompts", "import", str(tmp_path)).err
    assert "given as https" in command("prompts", "import", "ssh://example.com/x.git").err
