"""Stores adapters below the home folder by content, each completely or not at all. Blocks."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any
from uuid import uuid4

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.adapters import peft
from portico_server.models.gguf import read_gguf

_CHUNK_BYTES = 1024 * 1024

_GGUF, _SCRIPT = "adapter.gguf", "script.yaml"


@dataclass(frozen=True, slots=True)
class StoredAdapter:
    """A stored adapter. ``facts`` contains information from its files, such as ``kind``, ``sha256``, ``bytes`` and
    ``rank``.
    """

    path: Path
    facts: Mapping[str, Any] = field(default_factory=dict)


def store_adapter(source: Path, folder: Path, *, is_scripted: bool) -> StoredAdapter:
    """Validate the adapter at ``source``, and copy it below ``folder`` unless an identical adapter is already stored.

    Accepts a PEFT folder, a GGUF file, or the script of a fake model if ``is_scripted``. Raises `InvalidRequest`,
    `NotFound`, or `Unavailable` if the adapter cannot be copied.
    """
    if source.is_dir():
        adapter = peft.read_peft(source)
        facts: dict[str, Any] = {
            "kind": "peft",
            "rank": adapter.highest_rank,
            "alpha": adapter.alpha,
            "targets": list(adapter.targets),
            "trained_on": adapter.base,
        }
        files = {name: source / name for name in (peft.CONFIG, peft.WEIGHTS)}
    elif source.suffix == ".gguf":
        header = read_gguf(source)
        if header.kind != "adapter":
            raise InvalidRequest(
                f"{source} is a {header.kind}, not an adapter.", code="adapter_invalid", param="path"
            )
        facts = {"kind": "gguf", "alpha": header.values.get("adapter.lora.alpha")}
        files = {_GGUF: source}
    elif is_scripted and source.suffix in (".yaml", ".yml"):
        facts, files = {"kind": "script"}, {_SCRIPT: source}
    else:
        raise _unknown(source, is_scripted=is_scripted)
    try:
        return _keep(files, folder, facts)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else error.strerror or str(error)
        raise Unavailable(
            f"The adapter {source} cannot be copied to {folder}: {reason}. Nothing was changed.",
            code="disk_full" if full else "unavailable",
        ) from error


def adapter_folder(folder: Path, facts: Mapping[str, Any]) -> Path:
    """Return the path of the adapter with these ``facts``: a folder for a PEFT adapter, a file for others."""
    copy = folder / str(facts["sha256"])
    return copy / {"peft": "", "gguf": _GGUF, "script": _SCRIPT}[str(facts["kind"])]


def delete_adapter(folder: Path, facts: Mapping[str, Any]) -> None:
    """Delete the files of an adapter, including files that engines derived from them."""
    shutil.rmtree(folder / str(facts["sha256"]), ignore_errors=True)


def is_complete(folder: Path, facts: Mapping[str, Any]) -> bool:
    """Return whether the files of an adapter exist."""
    path = adapter_folder(folder, facts)
    return (path / peft.WEIGHTS).is_file() if facts["kind"] == "peft" else path.is_file()


def remove_partial(folder: Path) -> None:
    """Delete partial copies that a daemon left when it was killed while copying."""
    for draft in folder.glob(".*.new"):
        shutil.rmtree(draft, ignore_errors=True)


def _keep(files: Mapping[str, Path], folder: Path, facts: dict[str, Any]) -> StoredAdapter:
    digest, size = _digest(files)
    facts = {**facts, "sha256": digest, "bytes": size}
    target = folder / digest
    if not target.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{uuid4().hex}.new"
        try:
            draft.mkdir()
            for name, path in files.items():
                _copy(path, draft / name)
            if _digest({name: draft / name for name in files}) != (digest, size):
                raise InvalidRequest(
                    "The adapter changed while it was copied. Try again when its files are complete.",
                    param="path",
                )
            draft.rename(target)
        except OSError:
            if (
                not target.is_dir()
            ):  # otherwise, another process has stored an identical adapter in the meantime
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return StoredAdapter(adapter_folder(folder, facts), facts)


def _digest(files: Mapping[str, Path]) -> tuple[str, int]:
    """Return an identifier of the files, derived from their content, and their total size in bytes."""
    digest, size = hashlib.sha256(), 0
    for name, path in files.items():
        digest.update(f"{name} {path.stat().st_size}\n".encode())
        with path.open("rb") as file:
            while data := file.read(_CHUNK_BYTES):
                digest.update(data)
                size += len(data)
    return digest.hexdigest(), size


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as buffered_reader, target.open("wb") as copy:
        shutil.copyfileobj(buffered_reader, copy, _CHUNK_BYTES)
        copy.flush()
        os.fsync(copy.fileno())


def _unknown(source: Path, *, is_scripted: bool) -> PorticoError:
    if not source.exists():
        return NotFound(f"No adapter found at {source}.", code="adapter_not_found", param="path")
    is_pickled = source.suffix in (".bin", ".pt", ".pth", ".pkl")
    pickle_note = " It is a pickle, which can run code and is never loaded." if is_pickled else ""
    script = ", or the YAML script of a fake model's adapter" if is_scripted else ""
    return InvalidRequest(
        f"{source} is not an adapter.{pickle_note} Specify the folder that PEFT wrote, with {peft.CONFIG} "
        f"and {peft.WEIGHTS}, or a .gguf file{script}.",
        code="adapter_invalid",
        param="path",
    )


logger = logging.getLogger(__name__)
