"""Reads the progress of a start from an engine's log. Pure."""

from __future__ import annotations

import re

_STAGES = (
    # vLLM and transformers, with tqdm: Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01]
    ("load", re.compile(r"Loading [^:\n\r]*(?:shards|weights)[^:\n\r]*:\s+(\d{1,3})%")),
    # vLLM: Capturing CUDA graphs (decode, FULL):  40%|████      | 14/35
    ("warm-up", re.compile(r"Capturing CUDA graph[^:\n\r]*:\s+(\d{1,3})%")),
)


def stage_in(text: str) -> tuple[str, int] | None:
    """Return the last stage in a piece of a log, ``load`` or ``warm-up``, and its percentage."""
    stages = [
        (match.start(), stage, int(match[1])) for stage, form in _STAGES for match in form.finditer(text)
    ]
    if not stages:
        return None
    _, stage, percent = max(stages)
    return stage, min(percent, 100)
