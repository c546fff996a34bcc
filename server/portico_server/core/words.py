"""Words of texts and file names: Chinese, Japanese and Korean runs, file names in words, stop words. Contains only
patterns and lists.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import pairwise

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL = "\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3"

HAN_RUN = re.compile(f"[{_HAN}]+")
"""A run of Chinese characters."""

CJK_RUN = re.compile(f"[{_HAN}{_KANA}]+|[{_HANGUL}]+")
"""A run of characters from a script that puts no spaces between words or attaches particles to words."""


_MONTH_NAMES = "january february march april may june july august september october november december"
MONTHS = tuple(_MONTH_NAMES.split())
"""The English names of months, in lower case."""

FAMILY_NAMES = frozenset(
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘"
    "杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文庞樊兰殷"
    "施陶洪翟安颜倪严牛温芦季俞章鲁葛伍韦申尤毕聂焦向柳邢路岳齐梅莫庄辛管祝左涂谷祁时舒耿牟卜詹关苗凌费纪靳盛"
    "童欧甄项曲成游阳裴席卫查屈鲍位覃霍翁隋植甘景薄单包司柏宁柯阮褚骆"
)
"""Characters with which Chinese names of persons begin."""

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def without_thought(answer: str) -> str:
    """Return a model's answer without the reasoning that precedes it."""
    return _THOUGHT.sub("", answer).strip()


MAX_NUMBER_DIGITS = 18
"""Maximum number of digits of a whole number in an external text, so that a database can store the number."""


def whole_number(text: str, digits: int = MAX_NUMBER_DIGITS) -> int | None:
    """Return the whole number that ``text`` represents in at most ``digits`` ASCII digits; ``None`` for any other
    text.

    Convert external texts to whole numbers only with this function: ``isdigit`` accepts ``²``, which ``int`` rejects,
    and ``int`` raises for thousands of digits.
    """
    return int(text) if 0 < len(text) <= digits and text.isascii() and text.isdigit() else None


_CHARSETS = frozenset(
    (
        *(
            "ascii",
            "utf_8",
            "utf_8_sig",
            "utf_16",
            "utf_16_be",
            "utf_16_le",
            "utf_32",
            "utf_32_be",
            "utf_32_le",
        ),
        *(f"iso8859_{number}" for number in (*range(1, 12), *range(13, 17))),
        *(f"cp{number}" for number in (437, 850, 852, 855, 866, 874, 932, 949, 950, *range(1250, 1259))),
        *("koi8_r", "koi8_u", "mac_roman", "mac_cyrillic", "tis_620"),
        *("gb18030", "hz", "big5", "big5hkscs", "euc_jp", "shift_jis", "iso2022_jp", "euc_kr", "iso2022_kr"),
    )
)
"""Charsets of external documents: those of the WHATWG encoding standard, and of older mail and archives. Python has
further codecs, such as Punycode, that take quadratic time, raise, or decode no text.
"""


_WIDER_CHARSETS = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso8859_1": "cp1252",
    "ascii": "utf_8",
}
"""Encodings that documents with these labels often use, and that include the labelled ones."""


def decode_text(data: bytes, charset: str) -> str:
    """Return the text of an external document that declares ``charset``; a charset that is not in the list of charsets
    means UTF-8. Invalid bytes are replaced.
    """
    try:
        name = codecs.lookup(charset).name.replace("-", "_")
        encoding = _WIDER_CHARSETS.get(name, name)
        if encoding in _CHARSETS:
            return data.decode(encoding, "replace")
    except (LookupError, ValueError):  # not a known text encoding, or not a valid name
        pass
    return data.decode("utf-8", "replace")


def has_cjk(text: str) -> bool:
    """Return whether ``text`` contains a CJK run."""
    return CJK_RUN.search(text) is not None


def bigrams(run: str) -> list[str]:
    """Return each pair of adjacent characters in ``run``, or the character itself if there is only one."""
    return [run[i : i + 2] for i in range(len(run) - 1)] or [run]


_PARTICLES = frozenset(["up", "down", "out", "off", "in", "on", "over", "back", "away", "through"])


def compounds(words: Sequence[str], stop_words: AbstractSet[str]) -> list[str]:
    """Return verbs with their particles as single words, in the form of the noun: "back up" as "backup"."""
    return [
        f"{first}{second}"
        for first, second in pairwise(words)
        if second in _PARTICLES and len(first) > 2 and first not in stop_words
    ]
