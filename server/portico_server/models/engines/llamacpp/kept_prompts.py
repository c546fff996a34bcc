"""Prompts that llama.cpp has read, stored as files that outlive its process.

The total size of the files is limited, and each file is verified before use.

Restoring prompts has known defects, which this module avoids as follows. For an empty slot, llama.cpp writes a file
whose restore ends the process (ggml-org/llama.cpp#14434), so such files are not kept. A damaged file leaves wrong
values in the cache (#27068), so the digest of a file is compared first. Models with a sliding window, a recurrent
state or a projector cannot restore prompts (#25913, #28194, #26676), so their prompts are not kept.
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
"""Minimum number of tokens in a kept prompt. Reading a shorter prompt again is faster than restoring it."""

STATE_SUFFIX, NOTE_SUFFIX = ".state", ".json"


def common_length(sequence: Sequence[int], other_sequence: Sequence[int]) -> int:
    """Return the number of leading items that two sequences of the same type have in common."""
    low, high = 0, min(len(sequence), len(other_sequence))
    while low < high:  # binary search, because comparing slices is much faster than comparing items
        middle = (low + high + 1) // 2
        if sequence[low:middle] == other_sequence[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class KeptPrompt:
    """A file with llama.cpp's state after reading ``tokens``, with the size and the SHA-256 of the file."""

    name: str
    tokens: list[int]
    size: int
    digest: str


@dataclass(slots=True)
class KeptPrompts:
    """The kept prompts of one model on one engine, in a ``folder`` that all models share.

    ``identity`` determines which processes can use a file: the model's file, the version of llama.cpp, and the
    settings with which it computes. ``limit`` is the maximum size of the files of all models together, in bytes; the
    least recently used files are deleted first. All methods block.
    """

    folder: Path
    identity: str
    limit: int
    _prompts: dict[str, dict[str, KeptPrompt]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path, identity: Sequence[Any], limit: int) -> KeptPrompts:
        """Open the kept prompts in ``folder``, which only this user can read."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return cls(folder, hashlib.sha256(orjson.dumps(identity)).hexdigest(), limit)

    def refresh(self, adapter: str) -> bool:
        """Load prompts that other processes of the model have kept. Return whether one of them was read with
        ``adapter``.

        An empty ``adapter`` means no adapter.
        """
        paths = {path.stem: path for path in self.folder.glob(f"{self.identity[:16]}-*{NOTE_SUFFIX}")}
        known_names = {name for prompts in self._prompts.values() for name in prompts}
        for prompts in self._prompts.values():
            for name in prompts.keys() - paths.keys():
                del prompts[name]
        for name in paths.keys() - known_names:
            self._read(paths[name])
        return bool(self._prompts.get(adapter))

    def _read(self, path: Path) -> None:
        try:
            note = orjson.loads(path.read_bytes())
            prompt = KeptPrompt(path.stem, list(note["tokens"]), note["size"], note["digest"])
            adapter = str(note["adapter"])
            fits = note["identity"] == self.identity and (self.folder / (path.stem + STATE_SUFFIX)).is_file()
        except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
            fits = False
        if fits:
            self._prompts.setdefault(adapter, {})[prompt.name] = prompt
        else:
            self._delete(path.stem)

    def find(self, tokens: list[int], adapter: str) -> KeptPrompt | None:
        """Return the prompt that has the longest prefix in common with ``tokens``, or ``None`` if no common prefix is
        long enough to be worth restoring.
        """
        found_prompt = max(
            self._prompts.get(adapter, {}).values(),
            key=lambda prompt: common_length(prompt.tokens, tokens),
            default=None,
        )
        if found_prompt is None or common_length(found_prompt.tokens, tokens) < MIN_KEPT_TOKENS:
            return None
        return found_prompt

    def check(self, prompt: KeptPrompt, adapter: str) -> bool:
        """Return whether the file of a prompt is unchanged, and record that the prompt is used now. Delete the file if
        it has changed.
        """
        path = self.folder / (prompt.name + STATE_SUFFIX)
        try:
            with path.open("rb") as file:
                is_whole = hashlib.file_digest(file, "sha256").hexdigest() == prompt.digest
            os.utime(self.folder / (prompt.name + NOTE_SUFFIX))
        except OSError:
            is_whole = False
        if not is_whole:
            logger.warning("the kept prompt %s is damaged; deleting it", path)
            self.forget(prompt, adapter)
        return is_whole

    def draft(self) -> str:
        """Return a new file name to which llama.cpp can write a prompt."""
        return f"{self.identity[:16]}-{uuid4().hex[:16]}{STATE_SUFFIX}"

    def keep(self, draft: str, tokens: list[int], adapter: str) -> None:
        """Keep the file ``draft``, which contains ``tokens``. Delete kept prompts that are prefixes of ``tokens``, and
        the oldest prompts if the limit is exceeded.
        """
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
        for older_prompt in list(self._prompts.get(adapter, {}).values()):
            if common_length(older_prompt.tokens, prompt.tokens) == len(older_prompt.tokens):
                self.forget(older_prompt, adapter)
        self._prompts.setdefault(adapter, {})[prompt.name] = prompt
        self._prune()

    def holds(self, tokens: list[int], adapter: str) -> bool:
        """Return whether a kept prompt contains all of ``tokens``."""
        return any(
            common_length(prompt.tokens, tokens) == len(tokens)
            for prompt in self._prompts.get(adapter, {}).values()
        )

    def discard(self, draft: str) -> None:
        """Delete a file that is not worth keeping."""
        self._delete(draft.removesuffix(STATE_SUFFIX))

    def forget(self, prompt: KeptPrompt, adapter: str) -> None:
        """Delete the files of a kept prompt."""
        self._prompts.get(adapter, {}).pop(prompt.name, None)
        self._delete(prompt.name)

    def _delete(self, name: str) -> None:
        for suffix in (STATE_SUFFIX, NOTE_SUFFIX, ".new"):
            with suppress(OSError):
                (self.folder / (name + suffix)).unlink()

    def _prune(self) -> None:
        """Delete the oldest files of all models until the total size is within the limit."""
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
            for prompts in self._prompts.values():
                prompts.pop(name, None)
