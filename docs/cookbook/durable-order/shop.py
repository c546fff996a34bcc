"""The till and the van of a shop."""

from pathlib import Path


def charge(order: str) -> str:
    """Take the money."""
    return f"38.40 euros for {order}"


def ship(order: str) -> str:
    """Load the van."""
    if not Path("van.txt").exists():
        raise RuntimeError("The van is not there.")
    return f"{order}: on the way"
