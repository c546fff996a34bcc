"""What makes a name unique: one owner has it once, and what is shared has no owner."""

from __future__ import annotations


def claim_of(owner: str | None, name: str) -> str:
    """Owner and name as one value of a unique column. Null there holds no name, as in every database."""
    return f"{owner or ''}/{name}"
