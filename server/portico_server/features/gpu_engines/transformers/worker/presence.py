"""Stops the token generation of transformers as soon as the caller has left."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from .caller import Caller


class _Presence(StoppingCriteria):  # type: ignore[misc]  # transformers has no types
    def __init__(self, client: Caller) -> None:
        self._client = client

    def __call__(self, input_ids: Any, scores: Any, **options: Any) -> Any:
        self._client.check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def stop_when_caller_leaves(client: Caller) -> Any:
    """Return a ``stopping_criteria`` that raises `CallerGone` at the first token after the caller has left."""
    return StoppingCriteriaList([_Presence(client)])
