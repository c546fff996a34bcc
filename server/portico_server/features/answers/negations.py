"""Negations and opposites in a sentence. An answer must not change them. Pure functions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping

from portico_server.core.dataclass import dataclass

Span = tuple[int, int]

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

_STATES = (
    "opens? opened reopens reopened runs? running operates? operating operational available resumes? resumed "
    "continues? / closes? closed shuts? suspended discontinued cancell?ed stopped ceased halted ended terminated "
    "abolished out.of.service unavailable",
    "开放 营业 开门 开馆 运行 运营 通车 通航 通行 照常 正常 恢复 继续 供应 在售 / 停运 停业 停航 停开 停办 停工 停课 "
    "停用 停售 停止 暂停 中止 终止 关闭 闭馆 关门 歇业 休业 休馆 休息 放假 封闭 取消 撤销 下架 断供",
    "allows? allowed permits? permitted admits? admitted may welcome can / forbids? forbidden prohibits? "
    "prohibited bans? banned disallowed",
    "允许 准许 许可 可以 可 能 欢迎 / 禁止 严禁 禁(?!止) 谢绝",
    "supports? supported offers? offered provides? provided accepts? accepted sells? sold / removed? drops? "
    "dropped rejects? rejected refuses? refused declines? declined",
    "支持 提供 接受 受理 收 有 出售 销售 保留 / 拒收 取消 停止 移除 删除 停售",
    "free free.of.charge / charged charges paid fees?",
    "免费 免收 无偿 / 收费 付费 缴费 有偿",
    "needs? needed requires? required mandatory compulsory must necessary / optional voluntary waived",
    "需要 需 必须 须 应当 强制 / 自愿 可选 免除 免(?![费收除])",
    "valid in.force effective / invalid expired void repealed",
    "有效 生效 / 失效 作废 废止 过期",
    "approved? approves passed / denied vetoed",
    "批准 通过 同意 / 驳回 否决",
    "safe possible legal true / unsafe dangerous impossible illegal false",
    "安全 合法 属实 / 危险 违法",
)
"""Words that affirm and words that deny the same state."""


def _states() -> tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]:
    """Return the patterns of the words that affirm and that deny each state."""
    return tuple(
        (_any_word(affirming.split()), _any_word(denying.split()))
        for affirming, denying in (state.split(" / ") for state in _STATES)
    )


def _any_word(names: list[str]) -> re.Pattern[str]:
    alternatives = "|".join(names)
    return re.compile(rf"\b(?:{alternatives})\b" if names[0].isascii() else alternatives)


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


_STATE_PATTERNS = _states()


def without_spans(text: str, spans: Collection[Span]) -> str:
    """Return ``text`` with a blank in place of each span."""
    pieces = []
    begin = 0
    for start, end in sorted(spans):
        pieces += [text[begin:start], " "]
        begin = max(begin, end)
    return "".join([*pieces, text[begin:]])


@dataclass(frozen=True, slots=True)
class Affirmation:
    """What a sentence affirms or denies. ``states`` are the numbers of its states, ``text`` is the sentence without the
    words of its states and negations. ``denies``: an odd number of its words deny.
    """

    states: frozenset[int]
    denies: bool
    text: str


def affirmation(folded_sentence: str) -> Affirmation:
    """Return what a folded sentence affirms or denies."""
    text = _NOT_A_NEGATION.sub(lambda match: "\x00" * len(match.group()), folded_sentence)
    denials = {match.span() for match in _NEGATION.finditer(text)}
    affirmations: set[Span] = set()
    states = set()
    for number, (affirming, denying) in enumerate(_STATE_PATTERNS):
        own_denials = {match.span() for match in denying.finditer(text)}
        own_affirmations = {match.span() for match in affirming.finditer(text)}
        if own_denials or own_affirmations:
            states.add(number)
        denials |= own_denials
        affirmations |= own_affirmations
    return Affirmation(
        frozenset(states), len(denials) % 2 == 1, without_spans(folded_sentence, denials | affirmations)
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
