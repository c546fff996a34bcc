"""Identifiers: a prefix that names the noun, then 128 bits that sort by the time they were made."""

from __future__ import annotations

import os
import re
import time
from typing import Literal

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
]


def new_id(prefix: Prefix) -> str:
    """A new identifier such as ``run_0192f6…``: 48 bits of milliseconds, then 80 random bits, in hexadecimal.

    No id is a secret, but who has seen many cannot tell the next one: the system's generator makes each.
    """
    return f"{prefix}{int(time.time() * 1000) & 0xFFFFFFFFFFFF:012x}{os.urandom(10).hex()}"


def is_id(text: str, prefix: Prefix) -> bool:
    """Whether a reference has the form of an identifier of this noun, which no name may have."""
    return re.fullmatch(f"{prefix}[0-9a-f]{{32}}", text) is not None
