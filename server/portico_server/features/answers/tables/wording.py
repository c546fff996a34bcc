"""The sentences of a computed answer: the value, the query in words, and the rows that were used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.tables import MAX_LABELS, ColumnCondition, ComputedValue, StoreColumn, TableQuery
from portico_server.features.answers.language import language
from portico_server.features.answers.tables.lexicon import YEARS
from portico_server.features.answers.tables.rules import TableReading

MAX_SHOWN_DECIMALS: Final = 6


@dataclass(frozen=True, slots=True)
class _Wording:
    """The patterns of sentences in one language. ``aggregates`` have one for dates under a name with ``date``."""

    aggregates: Mapping[str, str]
    group: Mapping[bool, str]
    value: str
    label: str
    condition: str
    joint: str
    comparisons: Mapping[str, str]
    period: str
    sheet: str
    source: str
    rows: str
    extent: str
    empty: str
    end: str


_ENGLISH = _Wording(
    aggregates={
        "count": "the number of rows",
        "distinct": "the number of different values of “{column}”",
        "sum": "the sum of “{column}”",
        "mean": "the average of “{column}”",
        "max": "the highest “{column}”",
        "min": "the lowest “{column}”",
        "max date": "the latest “{column}”",
        "min date": "the earliest “{column}”",
    },
    group={
        True: "the “{group}” for which {aggregate} is largest",
        False: "the “{group}” for which {aggregate} is smallest",
    },
    value="{subject} is {value}",
    label=", in the row with the “{column}” {labels}",
    condition=" where {conditions}",
    joint=" and ",
    comparisons={
        "eq": "“{column}” is {value}",
        "ne": "“{column}” is not {value}",
        "gt": "“{column}” is more than {value}",
        "gte": "“{column}” is at least {value}",
        "lt": "“{column}” is less than {value}",
        "lte": "“{column}” is at most {value}",
        "gte date": "“{column}” is {value} or later",
        "lt date": "“{column}” is before {value}",
        "or": " or ",
    },
    period="“{column}” is from {first} to {last}",
    sheet="{file}, sheet “{sheet}”",
    source="Computed from {source}: {query}.",
    rows="Rows used: {used} of {total}",
    extent=", between row {first} and row {last}",
    empty="Rows left out because they have no value: {count}.",
    end=".",
)

_SIMPLIFIED = _Wording(
    aggregates={
        "count": "行数",
        "distinct": "“{column}”的不同值个数",
        "sum": "“{column}”的合计",
        "mean": "“{column}”的平均值",
        "max": "“{column}”的最大值",
        "min": "“{column}”的最小值",
        "max date": "最晚的“{column}”",
        "min date": "最早的“{column}”",
    },
    group={True: "{aggregate}最大的“{group}”", False: "{aggregate}最小的“{group}”"},
    value="{subject}是 {value}",
    label="，该行的“{column}”是 {labels}",
    condition="，条件是{conditions}",
    joint="，且",
    comparisons={
        "eq": "“{column}”为{value}",
        "ne": "“{column}”不是{value}",
        "gt": "“{column}”大于{value}",
        "gte": "“{column}”不小于{value}",
        "lt": "“{column}”小于{value}",
        "lte": "“{column}”不大于{value}",
        "gte date": "“{column}”在 {value} 或之后",
        "lt date": "“{column}”早于 {value}",
        "or": "或",
    },
    period="“{column}”从 {first} 到 {last}",
    sheet="{file} 的工作表“{sheet}”",
    source="根据 {source} 计算：{query}。",
    rows="使用了 {total} 行中的 {used} 行",
    extent="（第 {first} 行至第 {last} 行之间）",
    empty="另有 {count} 行没有值，未计入。",
    end="。",
)

_TRADITIONAL = _Wording(
    aggregates={
        "count": "行數",
        "distinct": "「{column}」的不同值個數",
        "sum": "「{column}」的合計",
        "mean": "「{column}」的平均值",
        "max": "「{column}」的最大值",
        "min": "「{column}」的最小值",
        "max date": "最晚的「{column}」",
        "min date": "最早的「{column}」",
    },
    group={True: "{aggregate}最大的「{group}」", False: "{aggregate}最小的「{group}」"},
    value="{subject}是 {value}",
    label="，該行的「{column}」是 {labels}",
    condition="，條件是{conditions}",
    joint="，且",
    comparisons={
        "eq": "「{column}」為{value}",
        "ne": "「{column}」不是{value}",
        "gt": "「{column}」大於{value}",
        "gte": "「{column}」不小於{value}",
        "lt": "「{column}」小於{value}",
        "lte": "「{column}」不大於{value}",
        "gte date": "「{column}」在 {value} 或之後",
        "lt date": "「{column}」早於 {value}",
        "or": "或",
    },
    period="「{column}」從 {first} 到 {last}",
    sheet="{file} 的工作表「{sheet}」",
    source="根據 {source} 計算：{query}。",
    rows="使用了 {total} 行中的 {used} 行",
    extent="（第 {first} 行至第 {last} 行之間）",
    empty="另有 {count} 行沒有值，未計入。",
    end="。",
)

_WORDINGS: Final[Mapping[str, _Wording]] = {"en": _ENGLISH, "zh-Hans": _SIMPLIFIED, "zh-Hant": _TRADITIONAL}


def has_wording(question: str) -> bool:
    """Return whether a computed answer can be written in the language of a question."""
    return language(question) in _WORDINGS


def answer_text(question: str, reading: TableReading, result: ComputedValue) -> str:
    """Return the answer to a question in its language, with the numbers of the passages."""
    wording = _WORDINGS[language(question)]
    query, columns = reading.query, reading.table.columns
    aggregate = _aggregate(wording, query, columns)
    marks = "".join(f" [{passage.rank}]" for passage in result.passages)
    value = _value_text(result.value, query, columns)
    if query.group is None:
        subject = aggregate
        sentence = wording.value.format(subject=subject, value=value)
        if result.labels and query.label is not None:
            labels = ", ".join(f"“{label}”" for label in result.labels[:MAX_LABELS])
            labels += " …" if len(result.labels) > MAX_LABELS else ""
            sentence += wording.label.format(column=columns[query.label].name, labels=labels)
    else:
        subject = wording.group[query.largest].format(group=columns[query.group].name, aggregate=aggregate)
        sentence = wording.value.format(subject=subject, value=f"“{result.labels[0]}” ({value})")
    cites_value = query.group is None and query.aggregate in ("max", "min")
    first = f"{sentence[0].upper()}{sentence[1:]}{marks if cites_value else ''}{wording.end}"
    conditions = wording.joint.join(_conditions(wording, query.conditions, columns))
    in_words = subject + (wording.condition.format(conditions=conditions) if conditions else "")
    source = reading.table.filename
    if reading.table.sheet:
        source = wording.sheet.format(file=source, sheet=reading.table.sheet)
    rows = wording.rows.format(used=f"{result.valued_rows:,}", total=f"{result.total_rows:,}")
    if result.valued_rows > 1:
        rows += wording.extent.format(first=f"{result.first_row:,}", last=f"{result.last_row:,}")
    sentences = [
        wording.source.format(source=source, query=in_words),
        f"{rows}{'' if cites_value else marks}{wording.end}",
    ]
    if result.matching_rows > result.valued_rows and query.group is None:
        sentences.append(wording.empty.format(count=f"{result.matching_rows - result.valued_rows:,}"))
    return f"{first}\n\n{(' ' if wording is _ENGLISH else '').join(sentences)}"


def _aggregate(wording: _Wording, query: TableQuery, columns: Sequence[StoreColumn]) -> str:
    if query.column is None:
        return wording.aggregates[query.aggregate]
    column = columns[query.column]
    name = f"{query.aggregate} date" if column.kind == "date" else query.aggregate
    return wording.aggregates.get(name, wording.aggregates[query.aggregate]).format(column=column.name)


def _conditions(
    wording: _Wording, conditions: Sequence[ColumnCondition], columns: Sequence[StoreColumn]
) -> list[str]:
    """Return the conditions in words. Two limits of the same date are one period."""
    texts: list[str] = []
    pending: ColumnCondition | None = None
    for condition in (*conditions, None):
        if pending is not None:
            column = columns[pending.column]
            if condition is not None and condition.column == pending.column and condition.comparison == "lt":
                texts.append(_period(wording, column, pending, condition))
                pending = None
                continue
            texts.append(_condition(wording, column, pending))
            pending = None
        if condition is None:
            break
        if columns[condition.column].kind == "date" and condition.comparison == "gte":
            pending = condition
        else:
            texts.append(_condition(wording, columns[condition.column], condition))
    return texts


def _period(wording: _Wording, column: StoreColumn, first: ColumnCondition, last: ColumnCondition) -> str:
    day = date.fromisoformat(str(last.values[0])) - timedelta(days=1)
    if str(first.values[0]) == day.isoformat():
        return wording.comparisons["eq"].format(column=column.name, value=day.isoformat())
    return wording.period.format(column=column.name, first=first.values[0], last=day.isoformat())


def _condition(wording: _Wording, column: StoreColumn, condition: ColumnCondition) -> str:
    name = f"{condition.comparison} date" if column.kind == "date" else condition.comparison
    values = [
        _number(value, column, column.decimals) if isinstance(value, float | int)
        else value if column.kind == "date" else f"“{value}”"
        for value in condition.values
    ]  # fmt: skip
    return wording.comparisons[name].format(column=column.name, value=wording.comparisons["or"].join(values))


def _value_text(value: str | float | None, query: TableQuery, columns: Sequence[StoreColumn]) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    if query.column is None or query.aggregate in ("count", "distinct"):
        return f"{value:,.0f}"
    column = columns[query.column]
    return _number(value, column, column.decimals + (2 if query.aggregate == "mean" else 0))


def _number(value: float, column: StoreColumn, decimals: int) -> str:
    """Return a number as its column writes numbers, with separators and the unit."""
    decimals = min(decimals, MAX_SHOWN_DECIMALS)
    if round(value, decimals) != round(value, MAX_SHOWN_DECIMALS):
        decimals = max(decimals, 2)
    text = f"{value:,.{decimals}f}" if YEARS.fullmatch(column.name.lower()) is None else f"{value:.0f}"
    if decimals > column.decimals:
        integer_part, _, part = text.partition(".")
        part = part[: column.decimals] + part[column.decimals :].rstrip("0")
        text = f"{integer_part}.{part}" if part else integer_part
    if not column.unit:
        return text
    return (
        f"{column.unit} {text}"
        if column.unit_first and len(column.unit) > 1
        else (f"{column.unit}{text}" if column.unit_first else f"{text} {column.unit}")
    )
