"""``include`` in a query, as OpenAI's clients write it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query


def _words(
    include: Annotated[list[str] | None, Query()] = None,
    bracketed: Annotated[list[str] | None, Query(alias="include[]")] = None,
) -> list[str]:
    return [*(include or ()), *(bracketed or ())]


Included = Annotated[list[str], Depends(_words)]
"""What ``include`` asks for; OpenAI's clients write lists as ``include[]=…``."""
