"""Identifiers: a prefix that names the kind of object, then 128 bits that sort by creation time."""

from __future__ import annotations

import os
import re
import time
from typing import Final, Literal

Prefix = Literal[
    "app_",
    "prompt_",
    "run_",
    "file-",
    "vs_",
    "vsfb_",
    "chatcmpl-",
    "cmpl-",
    "call_",
    "key_",
    "client_",
    "grant_",
    "msg_",
    "req_",
    "art_",
    "batch_",
    "ask_",
    "conv_",
    "fact_",
    "ftjob-",
    "ftckpt_",
    "ftevent-",
    "resp_",
    "cntr_",
    "eval_",
    "evalrun_",
    "evalsearch_",
    "improvement_",
    "upload_",
    "part_",
    "wh_",
    "modr-",
    "evt_",
    "sched_",
    "ctx_",
    "skill_",
    "skillver_",
    "sess_",
    "item_",
    "event_",
    "canary_",
    "link_",
    "guard_",
    "review_",
]


RANDOM_BYTES: Final = 10
DRAWN_COUNT: Final = 256
"""Number of ids whose random bytes are requested from the system together. Each request lets other threads run, which
costs more time than generating the bytes.
"""

_spare: list[str] = []
os.register_at_fork(after_in_child=_spare.clear)


def new_id(prefix: Prefix) -> str:
    """Return a new identifier such as ``run_0192f6…``: 48 bits of milliseconds, then 80 random bits, in hexadecimal.

    No id is a secret, but knowing many ids does not help to guess the next id: the system's generator makes the random
    bits.
    """
    try:
        part = _spare.pop()
    except IndexError:
        random_bytes = os.urandom(RANDOM_BYTES * DRAWN_COUNT)
        part, *more_parts = (
            random_bytes[at : at + RANDOM_BYTES].hex() for at in range(0, len(random_bytes), RANDOM_BYTES)
        )
        _spare.extend(more_parts)
    return f"{prefix}{int(time.time() * 1000) & 0xFFFFFFFFFFFF:012x}{part}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Return whether a text has the form of an identifier with this prefix, which names cannot have."""
    return re.fullmatch(f"{prefix}[0-9a-f]{{32}}", text) is not None
