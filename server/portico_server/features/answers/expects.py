"""The kind of answer that a question asks for, and whether a text contains one. Pure functions.

Patterns exist for English and Chinese. A question in another language, or without a specific kind of answer, has the
kind ``""``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from portico_server.core.words import MONTHS
from portico_server.features.answers.dates import WEEKDAYS
from portico_server.features.answers.language import CJK
from portico_server.features.answers.quantities import NUMBER_WORDS

_KINDS: tuple[tuple[str, re.Pattern[str]], ...] = (
    # Before the words of the kinds below, which say more of such a question: "How do I restart it when it hangs?"
    ("way", re.compile(r"^\W*how (?:can|could|do|does|did|should|would|to)\b")),
    ("reason", re.compile(r"^\W*why\b")),
    ("name", re.compile(r"^\W*what (?:happens|do i|does it|is the difference|can i|should i)\b")),
    (
        "count",
        re.compile(
            r"\bhow (?:many|much|often|old|long|far|tall|high|large|big|deep|hot|cold|fast|heavy|wide)\b"
            r"|\b(?:what|which) (?:\w+ )?(?:percent\w*|number|amount|price|cost|temperature|population|share|rate|"
            r"size|age|height|length|weight|distance|speed|score|port|version|ratio|fraction|proportion)\b"
            r"|多少|几[个次年名位岁人天种条家所座倍月周分小层届支项]|多[大长高久远重快深宽热]|百分之几|何种比例|第几|幾|占比|比例是|人口|价格|温度"
        ),
    ),
    (
        "date",
        re.compile(
            r"\bwhen\b|\b(?:what|which|whose)(?: \w+)? "
            r"(?:year|date|day|month|decade|century|time|era|period|season)s?\b"
            r"|\bsince what\b|何时|什么时候|什么时间|什麼時候|哪[一]?[年天日月]"
            r"|[哪几]个?(?:世纪|年代|年份|月份|时期|日期)|什么年代|哪些年|何年|几[点时月号]|日期"
        ),
    ),
    (
        "person",
        re.compile(
            r"\bwho(?:m|se)?\b|\b(?:what|which) (?:\w+ )?(?:person|man|woman|author|player|king|queen|president|"
            r"leader|actor|actress|singer|scientist|general|emperor|name)\b|谁|誰|哪[位名]|何人|什么人|叫什么|姓名|名字"
        ),
    ),
    (
        "place",
        re.compile(
            r"\bwhere\b|\b(?:what|which|whose) (?:\w+ )?(?:city|cities|country|countries|state|town|place|location|"
            r"region|continent|river|province|county|folder|directory|street|area|nation|island)\b"
            r"|哪里|哪裡|哪儿|何处|何地|什么地方|哪[个座些]?(?:城市|国家|地方|地区|州|省|县|大陆|河|岛|镇|街)|位于何|在哪"
        ),
    ),
    (
        "reason",
        re.compile(r"\bwhy\b|\bwhat (?:\w+ )?(?:caused?|causes|reasons?)\b|为什么|为何|為什麼|原因|何以"),
    ),
    ("way", re.compile(r"\bhow\b|如何|怎么|怎样|怎麼|怎樣|什么方式|什么方法")),
    (
        "name",
        re.compile(r"\b(?:what|which)\b|什么|什麼|哪|何"),
    ),
)

FACTS = frozenset({"count", "date", "person", "place"})
"""The kinds of answers that are a few words: one sentence says them."""

_OTHER_NUMBERS = "dozen half third quarter twice once double none"
_NUMBER_WORDS = (*sorted(NUMBER_WORDS), *_OTHER_NUMBERS.split())
_NUMBER = re.compile(
    r"(?<![a-z0-9_.])[$€£¥]?\d[\d,.]*|\b(?:" + "|".join(_NUMBER_WORDS) + r")s?\b"
    r"|[零一二三四五六七八九十百千万亿两半]+(?=[个次年名位岁人天种条家所座倍月周分小层届支项块元米公里度吨克秒只队场本轮章节部])|百分之",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)1\d{3}s?(?!\d)|(?<!\d)20\d\d(?!\d)|\b(?:" + "|".join(name.title() for name in MONTHS) + r")\b"
    r"|\b\d{1,2}(?:st|nd|rd|th) century|\bcentur(?:y|ies)\b"
    r"|\b(?:" + "|".join(WEEKDAYS) + r")s?\b"
    r"|\d{1,2}[:：]\d\d|\b(?:AD|BC|BCE|CE)\b|[\d零〇一二三四五六七八九十]+\s*[年月日号点]|世纪|年代|周[一二三四五六日]|星期|时期|朝"
)
_NAME = re.compile(
    r"(?<![.!?。]\s)(?<!^)\b[A-Z][\w’'-]+(?:\s+(?:of|the|de|van|von|al|[A-Z][\w’'-]*))*|[·・]|《[^》]+》|`[^`]+`"
)
_PERSON = re.compile(
    r"\b[A-Z][\w’'-]+(?:\s+[A-Z][\w’'.-]*)+|\b(?:Mr|Mrs|Ms|Dr|Sir|King|Queen|President|General|Professor)\b|[·・]"
    rf"|[{CJK}](?:先生|女士|教授|博士|国王|总统|皇帝|将军|爵士|人)"
)
_PLACE = re.compile(
    r"\b(?:in|at|near|from|to|of|on|under|across|into)\s+(?:the\s+)?(?:\w+\s+)?(?:[A-Z][\w’'-]+|`)"
    r"|(?:在|位于|于|从|到|来自|前往)[^，。]{1,12}|[国州省市县镇区城岛河洲山海]"
)
_REASON = re.compile(
    r"\b(?:because|since|due to|therefore|thus|as a result|result(?:s|ed)? (?:in|from)|cause[sd]?|reason|so that|"
    r"in order to|led to|owing|to (?:avoid|prevent|protect|allow|keep|make))\b"
    r"|因为|由于|因此|所以|为了|原因|导致|从而|以便",
    re.IGNORECASE,
)
_WAY = re.compile(
    r"\b(?:by \w+ing|using|through|via|with|means of|so that|method|process)\b|`|通过|使用|采用|利用|方法|以|用",
    re.IGNORECASE,
)

_FORMS: Mapping[str, re.Pattern[str]] = {
    "count": _NUMBER,
    "date": _DATE,
    "person": _PERSON,
    "place": _PLACE,
    "reason": _REASON,
    "way": _WAY,
    "name": _NAME,
}


def kind(question: str) -> str:
    """Return the kind of answer that ``question`` asks for; ``""`` if unknown."""
    text = question.lower()
    return next((name for name, pattern in _KINDS if pattern.search(text)), "")


def holds(answer_kind: str, question: str) -> Callable[[str], bool]:
    """Return a predicate: whether a text contains an answer of the kind ``answer_kind`` that is not already in
    ``question``.
    """
    form = _FORMS.get(answer_kind)
    if form is None:
        return lambda text: False
    folded_question = question.lower()
    return lambda text: any(
        match.group().lower().strip() not in folded_question for match in form.finditer(text)
    )
