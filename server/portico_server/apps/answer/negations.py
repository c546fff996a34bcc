"""Negations and opposites in a sentence. An answer must not change them. Pure functions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

_NEGATION = re.compile(
    r"\b(?:not|no|never|none|neither|nor|without|cannot|nobody|nothing|nowhere|unable|fail(?:s|ed)?\s+to|"
    r"refus(?:es|ed)\s+to|hardly|lacks?|lacked)\b|n[’']t\b"
    r"|没有|没|无法|未能|未|不|无|非|勿|别(?![的人墅名])|否认|缺乏|从未|绝不|拒绝"
)
_NOT_A_NEGATION = re.compile(
    r"\bnot\s+(?:only|just|merely|necessarily)\b|\bno\s+(?:doubt|less|more|longer|fewer)\s+than\b|\bno\.\s?\d"
    r"|不仅|不但|不只|不止|不同|不少|不断|不过|不久|不论|不管|不得不|不如|不足|不料|不幸|不满|不错|不可避免|不可或缺|差不多|无论|无线|无数|"
    r"无疑|无人机|未来|未婚|非常|非洲|非法|非凡|是非|除非|并非常|不列颠|不丹|不动产|不锈|不朽|不等|毫不|毫无|要不|对不起|了不起|"
    r"不一(?=致|样)|不明|不当|不良|不安|不便|不利|不力|北非|南非|西非|东非|特别|区别|级别|性别|分别|个别|类别|告别|别墅"
)
_CLAUSE = re.compile(
    r",(?!\d)|[;:，；：、()（）—–]|\b(?:but|while|whereas|although|though|because|which|who|and)\b|但|而是|然而|虽然|因为"
)
_OPPOSITES = (
    "increase/decrease rise/fall rose/fell increased/decreased grew/shrank allow/forbid allowed/forbidden "
    "permitted/prohibited open/closed enabled/disabled enable/disable before/after always/never highest/lowest "
    "largest/smallest longest/shortest oldest/youngest most/least more/fewer more/less above/below won/lost "
    "win/lose accept/reject accepted/rejected include/exclude included/excluded begin/end began/ended "
    "northern/southern eastern/western north/south east/west higher/lower true/false early/late "
    "maximum/minimum public/private possible/impossible legal/illegal required/optional inside/outside "
    "增加/减少 上升/下降 提高/降低 允许/禁止 打开/关闭 开启/关闭 启用/禁用 之前/之后 以前/以后 "
    "最大/最小 最高/最低 最多/最少 最长/最短 "
    "高于/低于 多于/少于 大于/小于 支持/反对 开始/结束 接受/拒绝 包括/排除 胜利/失败 "
    "赢得/失去 北部/南部 东部/西部 公开/私有 "
    "合法/非法 可能/不可能 必须/可选 总是/从不 早期/晚期 内部/外部"
)


def _opposites() -> Mapping[str, frozenset[str]]:
    """Return the opposites of each word."""
    opposites: dict[str, frozenset[str]] = {}
    for pair in _OPPOSITES.split():
        for word, other_word in itertools.permutations(pair.split("/")):
            opposites[word] = opposites.get(word, frozenset()) | {other_word}
    return opposites


_OPPOSITE = _opposites()
_OPPOSITE_WORD = re.compile(
    r"\b(?:"
    + "|".join(word for word in _OPPOSITE if word.isascii())
    + r")\b|"
    + "|".join(sorted((word for word in _OPPOSITE if not word.isascii()), key=len, reverse=True))
)


def clauses_of(folded_sentence: str) -> list[tuple[str, bool]]:
    """Return the clauses of a folded sentence, each with whether it is negated."""
    plain = _NOT_A_NEGATION.sub(lambda match: "\x00" * len(match.group()), folded_sentence)
    clauses = []
    begin = 0
    for end in (*(match.start() for match in _CLAUSE.finditer(folded_sentence)), len(folded_sentence)):
        if folded_sentence[begin:end].strip():
            clauses.append((folded_sentence[begin:end], len(_NEGATION.findall(plain, begin, end)) % 2 == 1))
        begin = end
    return clauses


def are_opposed(claim: str, source: str) -> bool:
    """Return whether folded ``claim`` contains a word whose opposite occurs in folded ``source``."""
    claim_words = set(_OPPOSITE_WORD.findall(claim))
    if not claim_words:
        return False
    source_words = set(_OPPOSITE_WORD.findall(source))
    return any(word not in source and _OPPOSITE[word] & (source_words - claim_words) for word in claim_words)
