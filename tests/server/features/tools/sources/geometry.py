"""Functions that tests turn into tools."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from typing import Literal


@dataclasses.dataclass
class Box:
    width: float
    height: float


def area(width: float, height: float = 2.0, unit: Literal["m", "cm"] = "m") -> dict[str, object]:
    """The area of a rectangle.

    Args:
        width: How wide it is.
        unit: What it is measured in.
    """
    print("this must not be taken for an answer")
    return {"area": width * height, "unit": unit}


async def later(names: list[str]) -> Box:
    """Told a moment later."""
    await asyncio.sleep(0)
    return Box(len(names), 1)


def broken() -> None:
    """Raises."""
    raise ValueError("no such thing")


def dies() -> None:
    """Ends its process."""
    os._exit(3)


def hangs() -> None:
    """Never returns."""
    time.sleep(3600)


def pid() -> int:
    """Where it runs."""
    return os.getpid()


def secrets() -> list[str]:
    """What it sees."""
    return sorted(os.environ)


def starred(*names: str) -> str:
    """Cannot be a tool."""
    return "".join(names)


def odd() -> object:
    """Returns what JSON has no form for."""
    return object()
