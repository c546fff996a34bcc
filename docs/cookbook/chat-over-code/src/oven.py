"""The oven."""

from dataclasses import dataclass

CAPACITY = 40


@dataclass
class Oven:
    """An oven with the loaves in it."""

    loaves: int = 0

    def add(self, loaves: int) -> None:
        """Put loaves into the oven. Raises `ValueError` if the oven is too full for more loaves."""
        if self.loaves + loaves > CAPACITY:
            raise ValueError("The oven is too full.")
        self.loaves += loaves


def minutes(loaves: int) -> int:
    """How long loaves are baked."""
    return 35 if loaves <= 20 else 45
