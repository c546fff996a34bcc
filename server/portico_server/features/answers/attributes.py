"""What a sentence tells about its subject, such as a length, a price or a beginning, in any of several words. Pure
functions.
"""

from __future__ import annotations

import re

_ATTRIBUTES = (
    "long length longest / 全长 长度 多长(?!时) 长达 总长 长(?=[\\d一二三四五六七八九十约])",
    "deep depth / 深",
    "wide width / 宽",
    "high height tall / 高度 多高 海拔 身高 高达 高(?=[\\d一二三四五六七八九十约])",
    "heavy weigh weighs weighed weight / 重(?![新要点])",
    "cost costs price priced fee fees / 价 多少钱 费用 售(?!后) 票是",
    "takes? took lasts? lasted duration / 多久 多长时间 用时 历时 耗时 时长 需要?(?=[\\d一二两三四五六七八九十半约])",
    "fast speed / 限速 时速 速度 多快",
    "old age aged / 年龄 多大 岁",
    "built build constructed / (?<!创)建于 建成 建造 修建",
    "founded established set-up / 成立 创建 创立 建立 创办",
    "held takes?-place took-place meets? occurs? / 举行 举办 召开",
    "director directed directs heads? headed leads? led / 负责",
    "deadline due / 截止 截至",
    "begins? began beginning starts? started / 开始 始于",
    "ends? ended finish finishes finished / 结束",
    "employs? employed employees staff workforce workers / 员工 职工 雇员",
    "inhabitants residents population people lives? / 人口 居民",
    "holds? capacity seats? / 容量 容纳 座位",
    "salary wages? earns? pays? / 工资 薪水 薪资 月薪",
    "vacation holidays? leave / 年假 休假",
    "register registration apply application applications / 报名 申请",
    "chairs? chaired chairman chairwoman chairperson president / 主席 会长",
    "headteacher head-teacher principal / 校长",
    "owns? owned owner belongs? / 拥有 所有者 属于",
)
"""Words that name the same attribute or event."""

_PATTERNS = tuple(
    re.compile(
        rf"\b(?:{'|'.join(english.replace('-', ' ') for english in names.split())})\b|{'|'.join(chinese.split())}"
    )
    for names, chinese in (attribute.split(" / ") for attribute in _ATTRIBUTES)
)


def attributes_in(folded_text: str) -> frozenset[int]:
    """Return the numbers of the attributes that a folded text names."""
    return frozenset(number for number, pattern in enumerate(_PATTERNS) if pattern.search(folded_text))


def attribute_spans(folded_text: str) -> list[tuple[int, int]]:
    """Return the spans of the words in a folded text that name attributes."""
    return [match.span() for pattern in _PATTERNS for match in pattern.finditer(folded_text)]
