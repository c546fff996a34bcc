"""Prompts in YAML, in Markdown, in folders and in Git repositories."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.features.prompts import folder

MARKDOWN = """---
description: Puts a text into another language.
arguments:
  - name: text
    required: true
  - {name: language, enum: [English, 中文], default: English}
examples:
  - {user: "Hallo", assistant: "Hello"}
---
# system
Translate into {language}.

# user
{text}

## Not a role
"""

YAML = """
prompts:
  - {name: one, messages: "One."}
  - name: two
    arguments: [topic]
    messages:
      - {role: system, content: Be brief.}
      - {role: user, content: "About {topic}."}
"""


def test_markdown_with_front_matter_is_a_prompt_named_after_its_file() -> None:
    (spec,) = folder.read_texts({"work/translate.md": MARKDOWN})
    assert spec.name == "translate" and [item.name for item in spec.arguments] == ["text", "language"]
    assert [message["content"] for message in spec.render({"text": "Hej"})] == [
        "Translate into English.",
        "Hallo",
        "Hello",
        "Hej\n\n## Not a role",
    ]


def test_markdown_without_headings_becomes_one_user_message() -> None:
    (spec,) = folder.read_texts({"a.md": "---\narguments: [x]\n---\nSay {x}.\n"})
    assert spec.render({"x": "hi"}) == ({"role": "user", "content": "Say hi."},)


def test_yaml_holds_one_prompt_or_several() -> None:
    single_prompt = "arguments: [x]\nmessages: 'Say {x}.'\n"
    assert [spec.name for spec in folder.read_texts({"b.yaml": YAML, "a.yml": single_prompt})] == [
        "a",
        "one",
        "two",
    ]


def test_hidden_files_links_and_other_files_of_a_folder_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "sub" / "translate.md").write_text(MARKDOWN, encoding="utf-8")
    (tmp_path / "README.md").write_text("# How to use these\n")
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / ".git" / "config.yaml").write_text("no: prompt")
    (tmp_path / "link.yaml").symlink_to("/etc/passwd")
    assert [spec.name for spec in folder.read_folder(tmp_path)] == ["translate"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.yaml": "{"}, "a.yaml is not valid YAML"),
        ({"a.yaml": "!!python/object/apply:os.getcwd []"}, "a.yaml is not valid YAML"),
        ({"a.yaml": "- 3"}, "a.yaml[0]: prompt must be a mapping"),
        ({"a.yaml": "messages: '{x}'"}, "a.yaml: prompt.messages[0] contains {x}"),
        (
            {"a.md": "---\nmessages: x\n---\n", "b.yaml": "name: a\nmessages: y"},
            "b.yaml: another file also has",
        ),
        ({"a.yaml": "[" * 2_000}, "a.yaml is not valid YAML"),
    ],
)
def test_an_invalid_prompt_is_refused_with_the_name_of_its_file(files: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        folder.read_texts(files)
    assert message in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/prompts.git",
        "file:///etc",
        "ext::sh -c id",
        "ssh://git@example.com/p.git",
        "git@example.com:p.git",
        "https://user:secret@example.com/p.git",
        "https://example.com:8443/p.git",
        "https:///p.git",
        "https://example.com/p.git --upload-pack=id",
        "--upload-pack=id",
        "https://[::1/p",
        "",
    ],
)
async def test_git_urls_other_than_plain_https_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await folder.read_repository(url)
    assert caught.value.param == "url"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A Git repository with a prompt and a link to an unrelated file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "translate.md").write_text(MARKDOWN, encoding="utf-8")
    (source / "passwd.yaml").symlink_to("/etc/passwd")
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    for command in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-q", "-m", "Prompts")):
        subprocess.run(["git", "-C", str(source), *command], check=True)
    return source


async def test_a_repository_is_fetched_at_its_newest_state(repository: Path, tmp_path: Path) -> None:
    await folder.clone(repository.as_uri(), tmp_path / "checkout", protocol="file")
    assert (tmp_path / "checkout" / "passwd.yaml").read_text() == "/etc/passwd"  # no longer a link
    (tmp_path / "checkout" / "passwd.yaml").unlink()
    assert [spec.name for spec in folder.read_folder(tmp_path / "checkout")] == ["translate"]


async def test_git_refuses_protocols_other_than_the_allowed_one(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="Git cannot fetch"):
        await folder.clone(tmp_path.as_uri(), tmp_path / "checkout")


async def test_git_goes_to_the_address_that_was_checked(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"Git cannot fetch https://host\.invalid/p\.git.*(?i:connect)"):
        await folder.clone(
            "https://host.invalid/p.git", tmp_path / "checkout", addresses=["127.0.0.1", "::1"]
        )
