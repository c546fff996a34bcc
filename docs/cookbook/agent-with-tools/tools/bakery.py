"""The shelf of a bakery."""


def stock(item: str) -> int:
    """How many pieces of an item are on the shelf.

    item: bread, rolls or cakes
    """
    return {"bread": 20, "rolls": 150, "cakes": 4}[item]
