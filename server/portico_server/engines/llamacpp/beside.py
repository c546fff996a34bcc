"""Files that a model is loaded with besides its own: a projector that lets it see, a model that guesses ahead, a
template. Reads headers only. Blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.engines.gguf import Gguf, read_gguf
from portico_server.engines.llamacpp.options import NONE

VOCABULARY = 128
"""Words by which the two vocabularies of speculative decoding may differ in number, by llama.cpp's own rule."""

TEMPLATE_LIMIT = 1024 * 1024
"""Bytes that a template may have."""


@dataclass(frozen=True, slots=True)
class Beside:
    """Each is empty or ``None`` where there is none; sizes in bytes."""

    projector: str = ""
    projector_bytes: int = 0
    draft: str = ""
    draft_file: Gguf | None = None
    template: str = ""


def find(name: str, parameters: Mapping[str, Any], path: Path, file: Gguf) -> Beside:
    """What the parameters name, and a projector that lies in the model's folder and fits it.

    Raises `InvalidRequest` that names the parameter.
    """
    projector = _projector(name, parameters.get("mmproj"), path, file)
    draft = parameters.get("draft_model")
    draft_path = Path(draft).expanduser() if draft else None
    return Beside(
        projector=str(projector) if projector else "",
        projector_bytes=projector.stat().st_size if projector else 0,
        draft=str(draft_path) if draft_path else "",
        draft_file=_draft(name, draft_path, file) if draft_path else None,
        template=_template(name, parameters.get("chat_template_file")),
    )


def _projector(name: str, given: str | None, path: Path, file: Gguf) -> Path | None:
    if given == NONE:
        return None
    if given is not None:
        found = Path(given).expanduser()
        header = _header(found, name, "mmproj")
        if header.architecture != "clip":
            raise InvalidRequest(
                f"{found} is not a projector (its architecture is '{header.architecture}', not 'clip'), so "
                f"'{name}' cannot see with it. Projectors are called mmproj-….gguf.",
                param="parameters.mmproj",
            )
        if not _sees(header, file):
            raise InvalidRequest(
                f"The projector {found} is for a model of another width than '{name}', which has "
                f"{file.embedding_length}. Take the one that was published with the model.",
                param="parameters.mmproj",
            )
        return found
    for candidate in sorted(path.parent.glob("*mmproj*.gguf")):
        try:
            if candidate != path and _sees(read_gguf(candidate), file):
                return candidate
        except PorticoError:
            continue  # somebody else's file, or half of one; nobody asked for it
    return None


def _sees(projector: Gguf, file: Gguf) -> bool:
    values = projector.values
    widths = [values.get(f"clip.{kind}.projection_dim") for kind in ("vision", "audio")]
    return file.embedding_length in [*widths, values.get("clip.projection_dim")]


def _draft(name: str, path: Path, file: Gguf) -> Gguf:
    header = _header(path, name, "draft_model")
    if header.truncated:
        raise InvalidRequest(
            f"The draft model {path} is cut short: fetch it again.", param="parameters.draft_model"
        )
    if abs(header.vocabulary - file.vocabulary) > VOCABULARY:
        raise InvalidRequest(
            f"The draft model {path} has {header.vocabulary:,} words and '{name}' has {file.vocabulary:,}: it cannot "
            "guess for it. Take a smaller model of the same family.",
            param="parameters.draft_model",
        )
    return header


def _header(path: Path, name: str, key: str) -> Gguf:
    try:
        return read_gguf(path)
    except PorticoError as error:
        raise InvalidRequest(
            f"'{key}' of the model '{name}': {error.message}", param=f"parameters.{key}"
        ) from error


def _template(name: str, given: str | None) -> str:
    if given is None:
        return ""
    path = Path(given).expanduser()
    try:
        with path.open("rb") as opened:
            text = opened.read(TEMPLATE_LIMIT + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The template {path} of the model '{name}' cannot be read: {error}.",
            param="parameters.chat_template_file",
        ) from error
    if len(text) > TEMPLATE_LIMIT or not text.strip():
        raise InvalidRequest(
            f"The template {path} of the model '{name}' is {'larger than 1 MB' if text.strip() else 'empty'}.",
            param="parameters.chat_template_file",
        )
    return text
