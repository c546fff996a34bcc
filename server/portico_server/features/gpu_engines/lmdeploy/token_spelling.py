"""The text of tokens. LMDeploy returns tokens as the vocabulary spells them, with marks for spaces and bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import orjson

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenSpelling:
    """How a vocabulary spells its tokens.

    With ``byte_level``, each character of a token represents a byte, as in GPT-2. Otherwise, ``▁`` represents a space.
    """

    def __init__(self, *, byte_level: bool) -> None:
        self._byte_level = byte_level

    @classmethod
    def of(cls, folder: Path) -> TokenSpelling:
        """Determine the spelling from the tokenizer in a model's folder. Blocks."""
        try:
            decoder = orjson.loads((folder / "tokenizer.json").read_bytes()).get("decoder")
        except (OSError, orjson.JSONDecodeError, AttributeError):
            decoder = None
        return cls(byte_level=_mentions(decoder, "ByteLevel"))

    def bytes_of(self, token: str) -> bytes:
        """Return the bytes that a token adds to the text."""
        if self._byte_level:
            table = _table()
            if all(character in table for character in token):
                return bytes(table[character] for character in token)
            return token.encode()
        if match := _BYTE.fullmatch(token):
            return bytes([int(match[1], 16)])
        return token.replace("▁", " ").encode()

    def entry(self, token_entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return a token with its log-probability in OpenAI's format."""
        data = self.bytes_of(str(token_entry["token"]))
        return {
            "token": data.decode("utf-8", "replace"),
            "logprob": token_entry["logprob"],
            "bytes": list(data),
        }

    def logprobs(self, logprobs: Mapping[str, Any], top_count: int) -> dict[str, Any]:
        """Return the ``logprobs`` of a choice in OpenAI's format.

        ``top_count`` alternatives were requested. LMDeploy does not list the chosen token among them, so it is added.
        """
        content = []
        for token_entry in logprobs.get("content") or ():
            chosen_entry = self.entry(token_entry)
            alternatives = [self.entry(alternative) for alternative in token_entry.get("top_logprobs") or ()]
            if len(alternatives) < top_count:
                alternatives.append(chosen_entry)
            alternatives.sort(key=lambda alternative: -alternative["logprob"])
            content.append({**chosen_entry, "top_logprobs": alternatives})
        return {"content": content}


def _mentions(decoder: Any, kind: str) -> bool:
    if not isinstance(decoder, dict):
        return False
    return decoder.get("type") == kind or any(
        _mentions(child, kind) for child in decoder.get("decoders") or ()
    )


@cache
def _table() -> Mapping[str, int]:
    """Return the byte that each character of GPT-2's vocabulary represents.

    Printable characters represent themselves; other bytes have characters beyond Latin-1.
    """
    printable_bytes = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    moved_bytes = [byte for byte in range(256) if byte not in printable_bytes]
    return {
        **{chr(byte): byte for byte in printable_bytes},
        **{chr(256 + place): byte for place, byte in enumerate(moved_bytes)},
    }


# Stop texts are searched for in the output: LMDeploy (0.18) supports only stop texts that are a single token,
# and treats every token that contains the text as a stop. Pure.
