"""Prompts in files: YAML, Markdown with front matter, or formats of other tools. The files are in a folder or a Git
repository.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

from portico_server import git
from portico_server.core import pools
from portico_server.core.errors import DeadlineExceeded, InvalidRequest
from portico_server.core.prompts.spec import MAX_PROMPT_CHARS, PromptSpec, parse
from portico_server.core.untrusted_yaml import InvalidYaml, read_yaml
from portico_server.features.prompts.import_formats import dotprompt, langchain, prompty

SUFFIXES: Final = (".yaml", ".yml", ".md", ".prompty", ".prompt", ".json")
_FOREIGN: Final = {".prompty": prompty, ".prompt": dotprompt}
MAX_FILES: Final = 1_000
"""Maximum number of files that one import reads."""

_CLONE_TIMEOUT_S: Final = 120.0
"""Maximum seconds for Git."""

_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
_ROLE = re.compile(r"^#[ \t]+(system|user|assistant)[ \t]*$", re.IGNORECASE | re.MULTILINE)


def read_texts(files: Mapping[str, str]) -> list[PromptSpec]:
    """Return the prompts in ``files``, which maps paths to texts, in the order of the paths.

    A prompt without a name is named after its file. Markdown without front matter is not a prompt, and neither is JSON
    that is not LangChain's. If a file contains an error, or two files contain prompts with the same name, raise
    `InvalidRequest` that names the file.
    """
    prompt_specs: dict[str, PromptSpec] = {}
    for path, text in sorted(files.items()):
        for spec in _read(path, text):
            if spec.name in prompt_specs:
                raise InvalidRequest(f"{path}: another file also has a prompt '{spec.name}'.", param="name")
            prompt_specs[spec.name] = spec
    return list(prompt_specs.values())


def read_folder(folder: Path) -> list[PromptSpec]:
    """Return the prompts of a folder and its subfolders; hidden folders and links are skipped."""
    if not folder.is_dir():
        raise InvalidRequest(f"The folder {folder} does not exist.", param="folder")
    return read_texts(dict(_texts(folder)))


async def read_repository(url: str, addresses: Sequence[str] = ()) -> list[PromptSpec]:
    """Return the prompts in the default branch of a Git repository. If ``addresses`` are given, the repository is
    fetched from one of these IP addresses.

    Raise `InvalidRequest` unless the URL is an https URL.
    """
    with tempfile.TemporaryDirectory(prefix="portico-prompts-") as folder:
        checkout = Path(folder) / "checkout"
        await clone(check_url(url), checkout, addresses=addresses)
        return await pools.FILES.run(read_folder, checkout)


def check_url(url: str) -> str:
    """Return the URL of a repository if Git may connect to it; otherwise raise `InvalidRequest`."""
    try:
        parts = urlsplit(url)
        right = parts.scheme == "https" and bool(parts.hostname) and parts.port in (None, 443)
    except ValueError:
        right = False
        parts = urlsplit("")
    if not right or parts.username or parts.password or any(c.isspace() or not c.isprintable() for c in url):
        raise InvalidRequest(
            "A repository must be given as https://HOST/PATH, without a user and on the default port. Clone "
            "any other repository yourself and import the folder.",
            code="invalid_url",
            param="url",
        )
    return url


async def clone(url: str, into: Path, *, protocol: str = "https", addresses: Sequence[str] = ()) -> None:
    """Fetch the latest commit of a repository with Git, only over ``protocol``, without hooks, submodules, links or
    password prompts.

    ``addresses``: the resolved IP addresses of the host. Git uses only these addresses during the fetch.
    """
    options = ("--depth", "1", "--single-branch", "--no-tags", "--quiet", "--template=")
    try:
        await git.run(
            into.parent,
            "clone",
            *options,
            "--",
            url,
            str(into),
            timeout_s=_CLONE_TIMEOUT_S,
            environment=git.reaching(url, addresses, protocol=protocol),
        )
    except (InvalidRequest, DeadlineExceeded) as error:
        if error.code == "git_missing":
            raise
        raise type(error)(f"Git cannot fetch {url}: {error.message}", code=error.code, param="url") from error


def _texts(folder: Path) -> Iterable[tuple[str, str]]:
    count = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(at, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES or path.is_symlink():
                continue
            count += 1
            if count > MAX_FILES:
                raise InvalidRequest(f"{folder} has more than {MAX_FILES} prompt files.", param="folder")
            shown_path = path.relative_to(folder).as_posix()
            if path.stat().st_size > MAX_PROMPT_CHARS:
                raise InvalidRequest(
                    f"{shown_path} is larger than {MAX_PROMPT_CHARS // 1024} KB.", param="folder"
                )
            try:
                yield shown_path, path.read_text(encoding="utf-8-sig")
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidRequest(f"{shown_path} cannot be read: {error}.", param="folder") from error


def _read(path: str, text: str) -> list[PromptSpec]:
    stem, suffix = PurePosixPath(path).stem, PurePosixPath(path).suffix.lower()
    if suffix in _FOREIGN:
        front = _FRONT.match(text)
        head = _yaml(front[1], path) if front is not None else {}
        body = text[front.end() :] if front is not None else text
        return [
            _parse(
                {"name": stem, **_FOREIGN[suffix](head if isinstance(head, dict) else {}, body, path)}, path
            )
        ]
    if suffix == ".json":
        found_document = langchain(_yaml(text, path), path)
        return [] if found_document is None else [_parse({"name": stem, **found_document}, path)]
    if suffix == ".md":
        front = _FRONT.match(text)
        if front is None:
            return []
        front_matter = _yaml(front[1], path) or {}
        if isinstance(front_matter, dict):
            front_matter = {"name": stem, **front_matter}
            front_matter.setdefault("messages", _sections(text[front.end() :]))
        return [_parse(front_matter, path)]
    document = _yaml(text, path)
    if (found_document := langchain(document, path)) is not None:
        return [_parse({"name": stem, **found_document}, path)]
    if isinstance(document, dict) and set(document) == {"prompts"}:
        document = document["prompts"]
    if isinstance(document, list):
        return [_parse(item, f"{path}[{number}]") for number, item in enumerate(document)]
    return [_parse({"name": stem, **document} if isinstance(document, dict) else document, path)]


def _parse(document: Any, at: str) -> PromptSpec:
    try:
        return parse(document)
    except InvalidRequest as error:
        raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=error.param) from error


def _sections(body: str) -> list[dict[str, str]]:
    """Return the messages in a Markdown body: one message for each heading ``# system``, ``# user`` or ``#
    assistant``.

    Text before the first such heading is a user message. Without such headings, the whole text is one.
    """
    parts = _ROLE.split(body)
    pairs = [("user", parts[0]), *zip(parts[1::2], parts[2::2], strict=True)]
    return [{"role": role.lower(), "content": text.strip()} for role, text in pairs if text.strip()]


def _yaml(text: str, path: str) -> Any:
    try:
        return read_yaml(text)
    except InvalidYaml as error:
        raise InvalidRequest(
            f"{path} is not valid YAML: {error}", code="invalid_yaml", param="files"
        ) from error
