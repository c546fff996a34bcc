"""``portico ask --history``: one command continues the conversation of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command


@pytest.mark.slow
def test_a_second_question_continues_the_conversation_in_the_history_file(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "talk.json"
    first = command("ask", "Which port does the Lighthouse daemon listen on?", "--history", str(file))
    assert first.code == 0, first.err
    assert "port.md" in first.out
    second = command("ask", "Why that one?", "--history", str(file), "--json")
    assert second.code == 0, second.err
    # Without the history, the second question has no word that a document could match.
    assert second.json["citations"][0]["filename"] == "port.md"
    messages = json.loads(file.read_text(encoding="utf-8"))
    assert [message["role"] for message in messages] == ["user", "assistant"] * 2
    assert messages[2]["content"] == "Why that one?"
    assert messages[3]["content"] == second.json["answer"]
    assert sorted(item.name for item in tmp_path.iterdir()) == ["talk.json"]


@pytest.mark.parametrize("content", ["{}", "nothing", '[{"role": "user"}]', "[3]"])
def test_an_invalid_history_file_is_refused_and_left_unchanged(
    command: Command, tmp_path: Path, content: str
) -> None:
    file = tmp_path / "talk.json"
    file.write_text(content, encoding="utf-8")
    done = command("ask", "Which port?", "--history", str(file))
    assert done.code == 1
    assert "conversation" in done.err
    assert file.read_text(encoding="utf-8") == content


def test_an_unwritable_history_path_is_reported(command: Command, tmp_path: Path) -> None:
    done = command("ask", "Which port?", "--history", str(tmp_path / "nowhere" / "talk.json"))
    assert done.code == 1
    assert "cannot be written" in done.err
