"""The words of questions that compute, in English and Chinese: what to compute, comparisons, and words without a
meaning of their own.

A word that is in no list and not in the table makes a question unclear. So modal verbs, "per", "each" and similar words
are missing on purpose.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

WordKind: TypeAlias = Literal[
    "count", "distinct", "sum", "in_total", "mean", "max", "min", "most", "least",
    "which", "who", "when", "rows", "compare", "compare_after", "between", "between_end", "to", "and",
    "not", "not_end", "glue",
]  # fmt: skip
"""The role of words. ``compare`` precedes its number or date, and ``compare_after`` follows it. ``to`` and ``and`` join
two of them, and ``between_end`` follows both. ``in_total`` only stresses a count or a sum.
"""

_MEASURE_WORDS = "个|条|笔|件|位|名|家|张|次|份|单|项|款|台|本|辆|行"

_ENGLISH: tuple[tuple[WordKind, str, str], ...] = (
    ("count", "", "(?:total |overall )?(?:how many|number of)|(?:the )?(?:total |overall )?count(?: of)?"),
    ("distinct", "", "different|distinct|unique"),
    (
        "sum",
        "",
        "(?:grand |overall |sum )?total|(?:grand |overall )?totals? of|(?:the )?sum of|sum(?: up)?|combined",
    ),
    ("in_total", "", "in total|altogether|all together|overall|in all"),
    ("mean", "", "(?:average|mean)(?: of)?|avg|on average"),
    ("max", "", "highest|largest|biggest|greatest|maximum(?: of)?|maximal|max"),
    ("max", "price", "(?:the )?most expensive|priciest|costliest"),
    ("max", "date", "latest|newest|most recent"),
    ("min", "", "lowest|smallest|minimum(?: of)?|minimal|min"),
    ("min", "price", "(?:the )?least expensive|cheapest"),
    ("min", "date", "earliest"),
    ("most", "", "(?:the )?most"),
    ("least", "", "(?:the )?(?:fewest|least)"),
    ("which", "", "which"),
    ("who", "", "who"),
    ("when", "", "when|on (?:which|what) (?:date|day)"),
    ("rows", "", "rows|records|entries|lines"),
    ("compare", "gte", "at least|(?:no|not) (?:less|fewer|lower) than|not (?:under|below)|at or above|>=|≥"),
    (
        "compare",
        "gte",
        "(?:more|greater|higher|larger) than or equal to|equal to or (?:more|greater|higher) than",
    ),
    (
        "compare",
        "lte",
        "at most|(?:no|not) (?:more|higher|greater) than|up to|not (?:over|above|exceeding)|<=|≤",
    ),
    ("compare", "lte", "(?:less|lower|smaller|fewer) than or equal to|equal to or (?:less|lower|fewer) than"),
    ("compare", "lte", "at or below"),
    ("compare", "gt", "(?:more|greater|higher|larger|bigger) than|above|over|exceeding|exceeds?|>"),
    ("compare", "lt", "(?:less|lower|smaller|fewer) than|below|under|<"),
    ("compare", "eq", "equal to|equals|exactly|="),
    (
        "compare",
        "since",
        "since|starting (?:in|on|from)|on or (?:after|later than)|(?:not|no) (?:before|earlier than)",
    ),
    ("compare", "after", "after|later than"),
    ("compare", "before", "before|earlier than|prior to"),
    ("compare", "until", "until|till|through|by the end of|on or (?:before|earlier than)"),
    ("compare", "until", "(?:not|no) (?:after|later than)"),
    ("compare_after", "gte", "or (?:more|above|higher|greater|over)|and (?:above|over|more)"),
    ("compare_after", "lte", "or (?:less|below|lower|fewer|under)|and (?:below|under|less)"),
    ("compare_after", "since", "or later|onwards?"),
    ("between", "", "between"),
    ("to", "", "to"),
    ("and", "", "and|or"),
    ("not", "", "(?:is |are |were |was )?not(?: (?:from|in|of|with|equal to))?"),
    ("not", "", "excluding|except(?: for)?|other than|outside(?: of)?"),
)

_ENGLISH_GLUE: Final = (
    "what(?: is| are| was| were|'s|’s)?|how much|how (?:high|large|big) (?:is|was|were)",
    "please|tell me|show me|give me|find|calculate|compute|determine|the|a|an|any|either|our|we|us",
    "(?:of |over |across |among )?all(?: of)?|that|of|in|on|at|from|for|with|to|by|as|within|during|among|across",
    "is|are|was|were|be|been|do|does|did|has|have|had|having|there|here|where|whose|values?|'s|’s|s",
    "came|comes?|coming|placed|made|recorded|registered|listed|receive[ds]?|work(?:s|ed|ing)?|contain(?:s|ed)?|exists?",
    "(?:this )?(?:tables?|sheet|spreadsheet|workbook|file|csv|data|dataset|list)",
)
"""Words without a meaning of their own. Words that refer to the speaker or to something else are missing on purpose."""

_CHINESE: tuple[tuple[WordKind, str, str], ...] = (
    (
        "count",
        "",
        rf"有着?(?:多少|几)(?:{_MEASURE_WORDS})?|(?:多少|几)(?:{_MEASURE_WORDS})|多少(?=[\u4e00-\u9fff])(?!多少钱)",
    ),
    ("count", "", "总数(?!量)|总条数|条数|笔数|个数|数目|数量"),
    ("distinct", "", "不(?:相)?同的?|不重复的?|去重后?的?"),
    ("sum", "", "总计|合计|总和|求和|之和|加起来|累计|总"),
    ("in_total", "", "总共|一共|共计|合共|共"),
    ("mean", "", "平均[值数]?|均值"),
    ("max", "", "最[高大]值?"),
    ("max", "price", "最贵"),
    ("max", "date", "最[新晚迟]"),
    ("min", "", "最[低小]值?"),
    ("min", "price", "最便宜"),
    ("min", "date", "最早"),
    ("most", "", r"最多(?!\s*[\d一二三四五六七八九十百千万])"),
    ("least", "", "最少"),
    ("which", "", "哪(?:一)?(?:个|种|位|家|名|款|条|笔|单|次|类|座|件|张|项|台)?"),
    ("who", "", "谁"),
    ("when", "", "是?(?:什么时候|何时|哪(?:一)?天|什么日期)"),
    ("rows", "", "行数据|行|条?记录"),
    ("compare", "gte", "大于(?:或)?等于|不小于|不少于|不低于|至少|≥|>="),
    (
        "compare",
        "lte",
        r"小于(?:或)?等于|不大于|不超过|不多于|不高于|至多|最多(?=\s*[\d一二三四五六七八九十百千万])|≤|<=",
    ),
    ("compare", "gt", "大于|多于|高于|超过|超出|>"),
    ("compare", "lt", "小于|少于|低于|不到|不足|<"),
    ("compare", "eq", "等于|="),
    ("compare", "since", "自从|自"),
    ("compare", "after", "晚于"),
    ("compare", "before", "早于"),
    ("compare", "until", "截至|截止到?"),
    ("compare_after", "gte", "(?:及|或|或者)?以上"),
    ("compare_after", "lte", "(?:及|或|或者)?以下|以内|之内"),
    ("compare_after", "since", "以来|起|开始"),
    ("compare_after", "after", "之后|以后"),
    ("compare_after", "before", "之前|以前"),
    ("compare_after", "until", "为止"),
    ("between", "", "介于"),
    ("between_end", "", "之间"),
    ("to", "", "到|至|~|～|–|—|-"),
    ("and", "", "和|与|及|以及|或者|或|并且|而且|且|、|，|,"),
    ("not", "", "不是|不在|不来自|不属于|不等于|非|除了|除|不包括|不包含|不含|排除"),
    ("not_end", "", "以外|之外|除外|外"),
)


_CHINESE_GLUE: Final = (
    "来自于?|计算(?:一下)?|算(?:一下|出)?|求出?|统计(?:一下)?|查询|查一下|告诉我?|给我|显示|给出|帮我|帮忙|请问|请",
    "我们|所有|全部|全体|当中|之中|属于|位于|从|由|于|在|的|了|为|有|共有|中|里面|里|内|上|那么|那|种|类|一下|对应",
    "是(?:多少|什么)?|多少钱?|什么|几|(?:这个|该)?(?:工作表|表格|表|文件)|数据|呢|吗|呀|啊",
    _MEASURE_WORDS,
)


def _compiled() -> Iterator[tuple[WordKind, str, re.Pattern[str]]]:
    english = (*_ENGLISH, *(("glue", "", words) for words in _ENGLISH_GLUE))
    chinese = (*_CHINESE, *(("glue", "", words) for words in _CHINESE_GLUE))
    for kind, detail, words in english:
        yield kind, detail, re.compile(rf"(?<![a-z0-9])(?:{words})(?![a-z0-9])")
    for kind, detail, words in chinese:
        yield kind, detail, re.compile(words)


LEXICON: Final = tuple(_compiled())
"""The kind of words, a detail such as the comparison, and the pattern of folded words."""

COMPUTES: Final = re.compile(
    r"\b(?:how many|number of|count|total|sum|combined|altogether|overall|average|mean|avg|highest|largest|biggest|"
    r"greatest|maximum|maximal|max|most|lowest|smallest|minimum|minimal|min|cheapest|priciest|costliest|least|fewest|"
    r"latest|newest|earliest|in all)\b|[总共均最几]|多少|合计|累计|求和|之和|加起来|数量|数目|个数|笔数|条数"
)
"""Words without which a folded question computes nothing."""

SUM_WORDS: Final = re.compile(r"(?:grand )?total|sum|总|合计")
"""The beginnings of the name of a column that is itself a total."""

ROW_WORDS: Final = ("条", "笔", "单", "次")
"""The ends of words such as "which" that ask for a row."""

PRICES: Final = re.compile(r"\b(?:price|cost|fee)s?\b|价|费")
"""Names of columns that "cheapest" and "most expensive" refer to."""

INTENSIVE: Final = re.compile(
    r"\bper\b|rate\b|ratio|percent|%|share|score|rating|\bage\b|temperature|average|mean|unit price|satisfaction|"
    r"\byear\b|单价|率|比|百分|评分|年龄|温度|平均|均价|年份|人均"
)
"""Names of columns whose values cannot be added up."""

ROW_VALUES: Final = re.compile(
    rf"{INTENSIVE.pattern}|price|salary|wage|\bpay\b|discount|margin|speed|height|length|width|duration|area|population|"
    r"价|得分|分数|工资|薪|折扣|时长|身高|长度|速度|面积|人口"
)
"""Names of columns of which the largest value is that of a row, not of a sum of rows."""

MEASURES: Final = re.compile(r"currency|币种|货币|\bunits?(?: of measure)?$|计量单位|单位$")
"""Names of columns with the units of numbers in other columns."""

PERSONS: Final = re.compile(r"name|employee|customer|client|person|姓名|名称|名字|员工|客户")
"""Names of columns that "who" refers to."""

YEARS: Final = re.compile(r"(?:fiscal |financial )?year|年份?|年度")
"""Names of columns with years in numbers."""

ID_STEMS: Final = frozenset(
    ["id", "ids", "no", "nr", "number", "num", "code", "key", "ref", "refer", "identifi"]
)
"""Stems that make the name of a thing the name of its identifier."""

GENERIC_STEMS: Final = ID_STEMS | {"name", "titl"}
"""Stems without which the name of a column is complete: "Customer name" is also a "customer"."""

ID_ENDINGS: Final = re.compile(r"(?:编号|号码|序号|代码|编码|号)$")
"""The ends of the names of identifiers in Chinese."""

GENERIC_ENDINGS: Final = re.compile(r"(?:编号|号码|序号|代码|编码|号|名称|姓名|名字|名|总?数量?|人数)$")
"""The ends of names in Chinese without which they are complete."""

SYNONYMS: Final[Mapping[str, str]] = {"client": "custom", "staff": "employe", "worker": "employe"}
"""Stems of words that name the same column."""

CHINESE_SYNONYMS: Final[Mapping[str, str]] = {
    "商品": "产品",
    "货品": "产品",
    "顾客": "客户",
    "职员": "员工",
    "雇员": "员工",
    "职工": "员工",
    "价格": "单价",
    "售价": "单价",
}
"""Words of the same length that name the same column."""

CHINESE_SYNONYM: Final = re.compile("|".join(CHINESE_SYNONYMS))

_UNIT_NAMES: Final[Mapping[str, str]] = {
    "€": "€ eur euro euros 欧元",
    "$": "$ usd dollar dollars 美元",
    "£": "£ gbp pound pounds 英镑",
    "元": "元 cny rmb yuan 人民币 ¥ 块 块钱",
    "kr": "kr kr. kroner kronor crowns",
    "%": "% percent",
}

CURRENCIES: Final[Mapping[str, str]] = {
    name: unit for unit, names in _UNIT_NAMES.items() for name in names.split()
}
"""Names of units, with the name that stands for all of them."""
