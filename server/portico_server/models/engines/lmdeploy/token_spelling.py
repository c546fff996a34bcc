"""The text of tokens: LMDeploy returns them as the vocabulary spells them, with marks for spaces and bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenSpelling:
    """``byte_level``: each character of a token stands for a byte (GPT-2's way); otherwise ``▁`` is a space."""

    def __init__(self, *, byte_level: bool) -> None:
        self._byte_level = byte_level

    @classmethod
    def of(cls, folder: Path) -> TokenSpelling:
        """Of the tokenizer in a model's folder. Blocks."""
        try:
            decoder = orjson.loads((folder / "tokenizer.json").read_bytes()).get("decoder")
        except (OSError, orjson.JSONDecodeError, AttributeError):
            decoder = None
        return cls(byte_level=_mentions(decoder, "ByteLevel"))

    def bytes_of(self, token: str) -> bytes:
        """What the token adds to the text."""
        if self._byte_level:
            table = _table()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
            return token.encode()
        if found := _BYTE.fullmatch(token):
            return bytes([int(found[1], 16)])
        return token.replace("▁", " ").encode()

    def entry(self, one: Mapping[str, Any]) -> dict[str, Any]:
        """A token with its log-probability in OpenAI's form."""
        data = self.bytes_of(str(one["token"]))
        return {"token": data.decode("utf-8", "replace"), "logprob": one["logprob"], "bytes": list(data)}

    def logprobs(self, found: Mapping[str, Any], wanted: int) -> dict[str, Any]:
        """``logprobs`` of a choice; LMDeploy leaves the chosen token out of its alternatives, of which ``wanted`` were
        asked for.
        """
        content = []
        for one in found.get("content") or ():
            chosen = self.entry(one)
            others = [self.entry(other) for other in one.get("top_logprobs") or ()]
            if len(others) < wanted:
                others.append(chosen)
            others.sort(key=lambda other: -other["logprob"])
            content.append({**chosen, "top_logprobs": others})
        return {"content": content}


def _mentions(decoder: Any, kind: str) -> bool:
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == kind or any(_mentions(one, kind) for one in decoder.get("decoders") or ())


@cache
def _table() -> Mapping[str, int]:
    """GPT-2's characters for bytes: printable ones stand for themselves, the others are moved up."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    moved = [byte for byte in range(256) if byte not in kept]
    return {
        **{chr(byte): byte for byte in kept},
        **{chr(256 + place): byte for place, byte in enumerate(moved)},
    }


# Texts that end an answer, looked for in what comes: LMDeploy (0.18) knows only stops that are one token, and takes
# any token for one that has the text somewhere in it. Pure.
