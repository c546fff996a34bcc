"""Orders of the shop."""


class Order:
    """What a customer wants."""

    def __init__(self, lines: list[tuple[str, int, float]]) -> None:
        self.lines = lines

    def price(self) -> float:
        """The price of the order in crowns: the sum of its lines, less a tenth from 100 crowns on."""
        total = sum(count * each for _, count, each in self.lines)
        return total * 0.9 if total >= 100 else total
