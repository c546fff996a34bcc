"""Where Chinese, Japanese and Korean stand in a text. Light: patterns only."""

from __future__ import annotations

import re

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"

HAN = re.compile(f"[{_HAN}]+")
"""A run of Chinese characters."""

RUN = re.compile(f"[{_HAN}{_KANA}]+|[{_HANGUL}]+")
"""A run of a script that is written without spaces between words, or with particles glued to them."""


def has_cjk(text: str) -> bool:
    """Whether there is any such run in ``text``."""
    return RUN.search(text) is not None


def bigrams(run: str) -> list[str]:
    """Each pair of neighbours in ``run``; the character itself if it stands alone."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]
