"""Prompts that llama.cpp has read, as files: they outlive its process. Bounded, and checked before they are read back.

Known defects of reading them back, and how they are met here. A slot that holds nothing makes a file whose restore ends
the process (ggml-org/llama.cpp#14434): none is kept. A damaged file leaves wrong values behind (#27068): its digest is
compared before. Models with a sliding window, a recurrent state or a projector get nothing back (#25913, #28194,
#26676): theirs are not kept.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson

from portico_server.core.dataclass import dataclass

logger = logging.getLogger(__name__)

MIN_KEPT_TOKENS = 128
"""Tokens below which a prompt is read sooner than it is worth a file."""

STATE_SUFFIX, NOTE_SUFFIX = ".state", ".json"


def common_length(sequence: Sequence[int], other_sequence: Sequence[int]) -> int:
    """How many items two sequences of one type have in common at their beginning."""
    low, high = 0, min(len(sequence), len(other_sequence))
    while low < high:  # comparing slices is much faster than comparing items
        middle = (low + high + 1) // 2
        if sequence[low:middle] == other_sequence[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class KeptPrompt:
    """A file with what llama.cpp knows of ``tokens``, and the size and SHA-256 of it."""

    name: str
    tokens: list[int]
    size: int
    digest: str


@dataclass(slots=True)
class KeptPrompts:
    """The prompts of one model on one engine, in a ``folder`` that all models share.

    ``identity`` says what a file is good for: the model's file, the version of llama.cpp, and how it computes.
    ``limit`` is bytes for all models together; those that were not used for the longest time go first. All methods
    block.
    """

    folder: Path
    identity: str
    limit: int
    _known: dict[str, dict[str, KeptPrompt]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, identity: Sequence[Any], limit: int) -> KeptPrompts:
        """The prompts that are there; the folder is for this user alone."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder, hashlib.sha256(orjson.dumps(identity)).hexdigest(), limit)

    def refresh(self, adapter: str) -> bool:
        """Look for what other processes of the model have kept; whether there is any that was read with ``adapter``,
        which is empty for none.
        """
        paths = {path.stem: path for path in self.folder.glob(f"{self.identity[:16]}-*{NOTE_SUFFIX}")}
        known_names = {name for prompts in self._known.values() for name in prompts}
        for prompts in self._known.values():
            for name in prompts.keys() - paths.keys():
                del prompts[name]
        for name in paths.keys() - known_names:
            self._read(paths[name])
        return bool(self._known.get(adapter))

    def _read(self, path: Path) -> None:
        try:
            note = orjson.loads(path.read_bytes())
            prompt = KeptPrompt(path.stem, list(note["tokens"]), note["size"], note["digest"])
            adapter = str(note["adapter"])
            fits = note["identity"] == self.identity and (self.folder / (path.stem + STATE_SUFFIX)).is_file()
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            fits = False
        if fits:
            self._known.setdefault(adapter, {})[prompt.name] = prompt
        else:
            self._delete(path.stem)

    def find(self, tokens: list[int], adapter: str) -> KeptPrompt | None:
        """The one that holds most of the beginning of ``tokens``; ``None`` if none holds enough to be worth it."""
        found_prompt = max(
            self._known.get(adapter, {}).values(),
            key=lambda prompt: common_length(prompt.tokens, tokens),
            default=None,
        )
        if found_prompt is None or common_length(found_prompt.tokens, tokens) < MIN_KEPT_TOKENS:
            return None
        return found_prompt

    def check(self, prompt: KeptPrompt, adapter: str) -> bool:
        """Whether its file is as it was written; one that is not is deleted. It counts as used now."""
        path = self.folder / (prompt.name + STATE_SUFFIX)
        try:
            with path.open("rb") as file:
                is_whole = hashlib.file_digest(file, "sha256").hexdigest() == prompt.digest
            os.utime(self.folder / (prompt.name + NOTE_SUFFIX))
        except OSError:
            is_whole = False
        if not is_whole:
            logger.warning("the kept prompt %s is damaged and is deleted", path)
            self.forget(prompt, adapter)
        return is_whole

    def draft(self) -> str:
        """The name of a file for llama.cpp to write."""
        return f"{self.identity[:16]}-{uuid4().hex[:16]}{STATE_SUFFIX}"

    def keep(self, draft: str, tokens: list[int], adapter: str) -> None:
        """``draft`` holds ``tokens``; takes the place of those that are its beginning, and of the oldest ones."""
        path = self.folder / draft
        path.chmod(0o600)
        with path.open("rb") as file:
            prompt = KeptPrompt(
                path.stem, tokens, path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest()
            )
        note = {
            "identity": self.identity,
            "adapter": adapter,
            "tokens": prompt.tokens,
            "size": prompt.size,
            "digest": prompt.digest,
        }
        place = self.folder / (prompt.name + NOTE_SUFFIX)
        descriptor = os.open(place.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(orjson.dumps(note))
        place.with_suffix(".new").replace(place)
        for other in list(self._known.get(adapter, {}).values()):
            if common_length(other.tokens, prompt.tokens) == len(other.tokens):
                self.forget(other, adapter)
        self._known.setdefault(adapter, {})[prompt.name] = prompt
        self._prune()

    def holds(self, tokens: list[int], adapter: str) -> bool:
        """Whether all of ``tokens`` are kept already."""
        return any(
            common_length(prompt.tokens, tokens) == len(tokens)
            for prompt in self._known.get(adapter, {}).values()
        )

    def discard(self, draft: str) -> None:
        """Delete a file that is not worth being kept."""
        self._delete(draft.removesuffix(STATE_SUFFIX))

    def forget(self, prompt: KeptPrompt, adapter: str) -> None:
        """Delete its files."""
        self._known.get(adapter, {}).pop(prompt.name, None)
        self._delete(prompt.name)

    def _delete(self, name: str) -> None:
        for suffix in (STATE_SUFFIX, NOTE_SUFFIX, ".new"):
            with suppress(OSError):
                (self.folder / (name + suffix)).unlink()

    def _prune(self) -> None:
        """Delete the oldest files of whatever model until the rest is within the limit."""
        notes: list[tuple[float, int, str]] = []
        for path in self.folder.glob(f"*{STATE_SUFFIX}"):
            with suppress(OSError):
                notes.append((path.with_suffix(NOTE_SUFFIX).stat().st_mtime, path.stat().st_size, path.stem))
        total = sum(size for _, size, _ in notes)
        for _, size, name in sorted(notes):
            if total <= self.limit:
                return
            total -= size
            self._delete(name)
            for prompts in self._known.values():
                prompts.pop(name, None)
