"""A plugin whose error has no text."""


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


raise UnprintableError
