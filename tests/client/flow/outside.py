"""Functions for tests of which code can travel, defined at the top level of a module as users do."""

from __future__ import annotations

import functools
import json
import math
import os
import re
import threading
from math import floor
from re import sub

LIMIT = 3
NAMES = ["flour", "water"]
KEPT: list[str] = []
TAX = {"de": 0.19, "纸": 0.13}
LOCK = threading.Lock()


def round_down(x: float) -> int:
    return floor(x)


def clean(text: str) -> str:
    return sub(r"\s+", " ", text).strip()


def uses_modules(text: str) -> str:
    return json.dumps({"n": math.ceil(float(re.findall(r"[\d.]+", text)[0]))})


def uses_constants(n: int) -> list[str]:
    return NAMES[:LIMIT] + [f"{key}{value}" for key, value in TAX.items()] * n


def uses_another(x: float) -> int:
    return helper(x) + 1


def helper(x: float) -> int:
    return round_down(x) * 2


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n: int) -> bool:
    return True if n == 0 else is_odd(n - 1)


def is_odd(n: int) -> bool:
    return False if n == 0 else is_even(n - 1)


def with_defaults(x: int, times: int = LIMIT, *, sep: str = "-") -> str:
    return sep.join([str(x)] * times)


def walrus(values: list[int]) -> list[int]:
    return [double for value in values if (double := value * 2) > 2]


def nested(values: list[int]) -> list[int]:
    def twice(x: int) -> int:
        return x * LIMIT

    return [(lambda y: twice(y) + 1)(value) for value in values]


def local_class(x: int) -> int:
    class Box:
        start = LIMIT

        def held(self) -> int:
            return self.start + x

    return Box().held()


def 汉字(文: str) -> str:
    return f"《{文}》"


class Shelf:
    """A class whose functions are steps."""

    height = 4

    @staticmethod
    def static(x: int) -> int:
        return x + 1

    def method(self, x: int) -> int:
        return x + self.height

    plain = lambda x: x * 2  # noqa: E731


# --- functions that stay ---


def holds_a_lock(x: str) -> str:
    with LOCK:
        return x


def imports_numpy(x: int) -> int:
    import numpy  # type: ignore[import-not-found,unused-ignore]

    return int(numpy.abs(x))


def asks(x: str) -> str:
    return input(x)


def yields(x: int) -> list[int]:
    def each() -> object:
        yield x

    return list(each())  # type: ignore[call-overload]


def deletes(x: dict[str, int]) -> dict[str, int]:
    del x["a"]
    return x


def remembers(x: str) -> str:
    KEPT.append(x)
    return x


def stores(x: str) -> str:
    TAX[x] = 1.0
    return x


def counts(x: int) -> int:
    global LIMIT
    LIMIT += x
    return LIMIT


def undefined(x: int) -> int:
    return nowhere(x)  # type: ignore[name-defined]  # noqa: F821


def environment(x: str) -> str:
    return os.environ[x]


async def waits(x: int) -> int:
    return x


@functools.cache
def decorated(x: int) -> int:
    return x


def marked(function: object) -> object:
    return function


@marked
def marked_one(x: int) -> int:
    return x
