"""Checks which questions a store's app computes from tables: ``python bench/tables.py``.

Generates a CSV file and a workbook with 3,000 rows each, two smaller sheets and two texts, the same for the same
``--seed``. Twenty questions in English and Chinese must be computed, with the value and the row that plain Python finds
in the generated rows. Twenty others must not be computed: the tables do not answer them, or not clearly.
"""

from __future__ import annotations

import argparse
import csv
import io
import random
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from answers import make_store_of
from harness import HERE, Report, call, daemon

sys.path.insert(0, str(HERE.parent))

from tests.server.features.readers.office import sheets  # must follow the change of the path

ROWS = 3_000
SMALL_ROWS = 240
SHOPS = 24

COMPUTED = ("Computed from ", "计算：")
"""Phrases of a computed answer."""

FIRMS = ("Nord", "Sund", "Fjell", "Vest")
COUNTRIES = ("Norway", "Sweden", "Denmark", "Finland", "New Zealand", "South Korea")
PRODUCTS = {
    "Desk lamp": 349.5,
    "Standing desk": 5_990.0,
    "Office chair": 2_495.0,
    "Monitor arm": 899.9,
    "Footrest": 129.0,
}
STATUSES = ("Shipped", "Pending", "Cancelled", "Returned")
CITIES = ("上海", "北京", "广州", "成都", "杭州", "武汉")
GOODS = {
    "拿铁": (28.0, "饮品"),
    "美式": (22.0, "饮品"),
    "可颂": (18.5, "糕点"),
    "蛋糕": (36.0, "糕点"),
    "咖啡豆": (128.0, "零售"),
}
DEPARTMENTS = ("Finance", "Research", "Support", "Logistics")

TEXTS = {
    "handbook.md": (
        "# Handbook\n\nCustomers have 30 days to return an order. A customer can place at most five orders per day.\n\n"
        "The total amount of an order is the sum of its lines plus freight. Employees get 28 days of vacation.\n\n"
        "## Limits\n\nThe maximum amount of a credit is 20,000 kr. The highest mountain of Norway is Galdhøpiggen.\n"
    ),
    "规章.md": (
        "# 规章\n\n顾客可以在七天内退货。每位员工每年有十五天年假。\n\n总金额超过一千元的订单需要店长批准。\n\n"
        "会员最多可以累计五千积分。平均等待时间不得超过十分钟。\n"
    ),
}


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The generated rows as values, and the files with them as texts."""

    orders: Sequence[Mapping[str, Any]]
    sales: Sequence[Mapping[str, Any]]
    employees: Sequence[Mapping[str, Any]]
    shops: Sequence[Mapping[str, Any]]
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class TableQuestion:
    """A question, the texts that its answer must contain, and the row or cell that it must cite, if there is only
    one.
    """

    text: str
    expected: Sequence[str]
    place: str = ""


def generate(seed: int) -> TableFiles:
    """Return the rows and files of a seed."""
    rng = random.Random(seed)
    orders = [_order(rng, number) for number in range(1, ROWS + 1)]
    sales = sorted(
        (_sale(rng, number) for number in range(1, ROWS + 1)), key=lambda row: CITIES.index(row["城市"])
    )
    first_names, last_names = (
        ("Ada", "Bo", "Cai", "Dag", "Eva", "Finn"),
        ("Berg", "Dahl", "Holm", "Lund", "Moe", "Vik"),
    )
    names = [f"{a} {b}-{c}" for a in first_names for b in last_names for c in last_names if b != c + "x"]
    employees = [
        {
            "Name": name,
            "Department": rng.choice(DEPARTMENTS),
            "Salary": 38_000 + 10 * number + 500 * rng.randrange(60),
            "Hired": _day(rng, 2015, 2024),
        }
        for number, name in enumerate(rng.sample(names, min(SMALL_ROWS, len(names))))
    ]
    shops = [
        {
            "门店": f"{rng.choice(CITIES)}{number}店",
            "面积": 60 + 7 * number,
            "员工数": rng.randint(3, 20),
            "开业日期": _day(rng, 2010, 2024),
        }
        for number in range(1, SHOPS + 1)
    ]
    files = {name: text.encode() for name, text in TEXTS.items()}
    files["orders.csv"] = _orders_csv(orders)
    files["门店.xlsx"] = _workbook(sales, employees, shops)
    return TableFiles(orders, sales, employees, shops, files)


def _day(rng: random.Random, first: int, last: int) -> date:
    return date(first, 1, 1) + timedelta(days=rng.randrange((date(last + 1, 1, 1) - date(first, 1, 1)).days))


def _order(rng: random.Random, number: int) -> dict[str, Any]:
    product = rng.choice(tuple(PRODUCTS))
    quantity, discount = rng.randint(1, 12), rng.randrange(0, 31) / 2
    return {
        "Order ID": f"O-{10_000 + number}",
        "Order date": _day(rng, 2023, 2024),
        "Customer": f"{rng.choice(FIRMS)} {rng.choice(('AS', 'Ltd', 'AB'))} {rng.randint(1, 40)}",
        "Country": rng.choices(COUNTRIES, (9, 7, 5, 4, 2, 2))[0],
        "Product": product,
        "Quantity": quantity,
        "Unit price": PRODUCTS[product],
        "Discount": discount,
        "Amount": round(quantity * PRODUCTS[product] * (1 - discount / 100), 2),
        "Status": rng.choices(STATUSES, (8, 2, 1, 1))[0],
    }


def _sale(rng: random.Random, number: int) -> dict[str, Any]:
    name = rng.choice(tuple(GOODS))
    count = rng.randint(1, 9)
    return {
        "单号": f"S{number:05}",
        "日期": _day(rng, 2023, 2024),
        "客户姓名": f"{rng.choice('王李张刘陈杨赵黄')}{rng.choice('伟芳娜敏静强磊洋')}{rng.choice('华明丽军杰')}",
        "城市": rng.choices(CITIES, (6, 5, 4, 3, 2, 2))[0],
        "商品名称": name,
        "类别": GOODS[name][1],
        "数量": count,
        "单价": GOODS[name][0],
        "金额": count * GOODS[name][0] - rng.randrange(0, 10) / 2,
    }


def _orders_csv(orders: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a file with units, thousands separators, empty rows, missing values and a row of totals."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(tuple(orders[0]))
    for number, row in enumerate(orders, 1):
        if number % 500 == 0:
            writer.writerow([])
        discount = "n/a" if row["Discount"] == 0 else f"{row['Discount']:.1f} %"
        writer.writerow([
            row["Order ID"], row["Order date"], row["Customer"], row["Country"], row["Product"], row["Quantity"],
            f"{row['Unit price']:,.2f} kr", discount, f"{row['Amount']:,.2f} kr", row["Status"],
        ])  # fmt: skip
    total = sum(row["Amount"] for row in orders)
    writer.writerow(["Total", "", "", "", "", "", "", "", f"{total:,.2f} kr", ""])
    return text.getvalue().encode()


def order_row(order: Mapping[str, Any]) -> int:
    """Return the row of an order in the file: there is an empty row before every 500th order."""
    number = int(order["Order ID"][2:]) - 10_000
    return 1 + number + number // 500


FIRST_SALE_ROW = 4
"""Row of the first sale, below a title and a header over two rows."""


def _workbook(
    sales: Sequence[Mapping[str, Any]],
    employees: Sequence[Mapping[str, Any]],
    shops: Sequence[Mapping[str, Any]],
) -> bytes:
    """Return a workbook with a title, a header over two rows, and cities in cells that are merged over their rows."""
    header: list[list[Any]] = [
        ["门店销售明细"],
        ["单号", "日期", "客户", None, "商品", None, "数量（件）", "结算", None],
        [None, None, "姓名", "城市", "名称", "类别", None, "单价（元）", "金额（元）"],
    ]
    rows: list[list[Any]] = []
    ranges = ["A1:I1", "A2:A3", "B2:B3", "C2:D2", "E2:F2", "G2:G3", "H2:I2"]
    begin = FIRST_SALE_ROW
    for number, row in enumerate(sales, FIRST_SALE_ROW):
        is_first = number == FIRST_SALE_ROW or row["城市"] != sales[number - FIRST_SALE_ROW - 1]["城市"]
        if is_first:
            if number > begin:
                ranges.append(f"D{begin}:D{number - 1}")
            begin = number
        day = row["日期"]
        rows.append([
            row["单号"], f"{day.year}/{day.month}/{day.day}", row["客户姓名"], row["城市"] if is_first else None,
            row["商品名称"], row["类别"], row["数量"], row["单价"], row["金额"],
        ])  # fmt: skip
    ranges.append(f"D{begin}:D{FIRST_SALE_ROW + len(sales) - 1}")
    staff: list[list[Any]] = [["Name", "Department", "Salary (EUR)", "Hired"]]
    staff += [
        [row["Name"], row["Department"], row["Salary"], row["Hired"].strftime("%d %B %Y")]
        for row in employees
    ]
    places: list[list[Any]] = [["门店名称", "面积（平方米）", "员工数", "开业日期"]]
    places += [[row["门店"], row["面积"], row["员工数"], f"{row['开业日期']:%Y年%m月%d日}"] for row in shops]
    return sheets(
        {"销售明细": [*header, *rows], "Employees": staff, "门店一览": places}, merged={"销售明细": ranges}
    )


Rows = Sequence[Mapping[str, Any]]


def computed_questions(data: TableFiles) -> list[TableQuestion]:
    """Return the questions that must be computed, ten in each language, with their answers."""
    return [*_english_questions(data), *_chinese_questions(data)]


def _values(rows: Rows, name: str) -> list[Any]:
    return [row[name] for row in rows]


def _between(rows: Rows, name: str, first: date, last: date) -> Rows:
    return [row for row in rows if first <= row[name] <= last]


def _equal(rows: Rows, **values: Any) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _mean(rows: Rows, name: str, decimals: int) -> str:
    return f"{statistics.fmean(_values(rows, name)):,.{decimals}f}".rstrip("0")


def _place(rows: Rows, best: Mapping[str, Any], name: str, place: str) -> str:
    """Return the place of the best row, or nothing if other rows have the same value."""
    return place if _values(rows, name).count(best[name]) == 1 else ""


def _english_questions(data: TableFiles) -> Iterator[TableQuestion]:
    orders, employees = data.orders, data.employees
    countries = {country: sum(_values(_equal(orders, Country=country), "Amount")) for country in COUNTRIES}
    country = max(countries, key=countries.__getitem__)
    paid = max(employees, key=lambda row: row["Salary"])
    largest = max(orders, key=lambda row: row["Amount"])
    year = _between(orders, "Order date", date(2024, 1, 1), date(2024, 12, 31))
    spring = _between(orders, "Order date", date(2024, 3, 1), date(2024, 5, 31))
    large = [row for row in orders if row["Amount"] > 20_000 and row["Quantity"] >= 10]
    yield TableQuestion(
        "What is the total amount of all orders?", (f"{sum(_values(orders, 'Amount')):,.2f} kr",)
    )
    yield TableQuestion("How many orders came from Norway?", (f"{len(_equal(orders, Country='Norway')):,}",))
    yield TableQuestion("Which product has the highest price?", ("Standing desk", "5,990.00 kr"))
    yield TableQuestion(
        "What is the average amount of orders from South Korea in 2024?",
        (_mean(_equal(year, Country="South Korea"), "Amount", 4),),
    )
    yield TableQuestion(
        "How many orders placed between 1 March 2024 and 31 May 2024 were cancelled?",
        (f"{len(_equal(spring, Status='Cancelled')):,}",),
    )
    yield TableQuestion(
        "How many orders have an amount above 20,000 kr and a quantity of at least 10?", (f"{len(large):,}",)
    )
    yield TableQuestion(
        "Which country has the highest total amount?", (country, f"{countries[country]:,.2f} kr")
    )
    yield TableQuestion(
        "How many different customers are there?", (f"{len({*_values(orders, 'Customer')}):,}",)
    )
    yield TableQuestion(
        "Who has the highest salary?",
        (paid["Name"], f"{paid['Salary']:,} EUR"),
        _place(employees, paid, "Salary", f"C{2 + employees.index(paid)}"),
    )
    yield TableQuestion(
        "What is the largest order amount?",
        (f"{largest['Amount']:,.2f} kr",),
        _place(orders, largest, "Amount", str(order_row(largest))),
    )


def _chinese_questions(data: TableFiles) -> Iterator[TableQuestion]:
    sales, shops = data.sales, data.shops
    city, count = Counter(_values(sales, "城市")).most_common(1)[0]
    shop = max(shops, key=lambda row: row["面积"])
    year = _between(sales, "日期", date(2024, 1, 1), date(2024, 12, 31))
    spring = _equal(_between(sales, "日期", date(2024, 3, 1), date(2024, 5, 31)), 城市="杭州")
    cakes = _equal(sales, 城市="北京", 类别="糕点")
    yield TableQuestion("所有销售的总金额是多少？", (f"{sum(_values(sales, '金额')):,.1f} 元",))
    yield TableQuestion("上海的销售记录有多少条？", (f"{len(_equal(sales, 城市='上海')):,}",))
    yield TableQuestion("哪个商品的单价最高？", ("咖啡豆", "128.0 元"))
    yield TableQuestion("2024年的平均金额是多少？", (_mean(year, "金额", 3),))
    yield TableQuestion("2024年3月到5月，杭州的总金额是多少？", (f"{sum(_values(spring, '金额')):,.1f} 元",))
    yield TableQuestion(
        "金额超过两百元的销售记录有多少条？", (f"{sum(row['金额'] > 200 for row in sales):,}",)
    )
    yield TableQuestion("一共有多少位不同的客户？", (f"{len({*_values(sales, '客户姓名')}):,}",))
    yield TableQuestion("哪个城市的销售记录最多？", (city, f"{count:,}"))
    yield TableQuestion(
        "面积最大的门店是哪家？",
        (shop["门店"], f"{shop['面积']} 平方米"),
        _place(shops, shop, "面积", f"B{2 + shops.index(shop)}"),
    )
    yield TableQuestion("北京的糕点总数量是多少？", (f"{sum(_values(cakes, '数量')):,} 件",))


OTHER_QUESTIONS = (
    "How many days do customers have to return an order?",
    "How many orders can a customer place per day?",
    "How is the total amount of an order calculated?",
    "What is the maximum amount of a credit?",
    "What is the total profit of all orders?",
    "How many days of vacation do employees get?",
    "Which customer has the highest amount?",
    "What is the amount of order O-10042?",
    "How many orders came from unhappy customers?",
    "How many orders were placed last month?",
    "What is the highest mountain of Norway?",
    "How many orders came from Iceland?",
    "总金额超过一千元的订单需要谁批准？",
    "每位员工每年有多少天年假？",
    "会员最多可以累计多少积分？",
    "平均等待时间不得超过多少分钟？",
    "销售的总利润是多少？",
    "顾客可以在几天内退货？",
    "深圳的销售记录有多少条？",
    "为什么上海的总金额最高？",
)
"""Questions that must not be computed."""


def main() -> None:
    """Ask each question, and print the figures and every wrong answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", action="store_true", help="print all answers")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = generate(options.seed)
    questions = computed_questions(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "shop"
        folder.mkdir()
        for name, content in data.files.items():
            (folder / name).write_bytes(content)
        with daemon(Path(temporary) / "home") as portico:
            make_store_of(portico.url, "shop", folder)
            answers = [(question, *ask(portico.url, question.text)) for question in questions]
            others = [(text, *ask(portico.url, text)) for text in OTHER_QUESTIONS]
    wrong = [item for item in answers if not is_right(*item[:3])]
    false_alarms = [item for item in others if is_computed(item[1])]
    times = [item[-1] for item in (*answers, *others)]
    columns = ("computed", "right", "others", "false alarms", "p50 s", "max s", "first s")
    report = Report("Questions about tables", columns)
    report.add(
        computed=len(answers),
        right=len(answers) - len(wrong),
        others=len(others),
        **{
            "false alarms": len(false_alarms),
            "p50 s": statistics.median(item[-1] for item in answers),
            "max s": max(times),
            "first s": times[0],
        },
    )
    report.show(options.json)
    for question, answer, places, _seconds in answers if options.show else wrong:
        print(f"{question.text} expected {question.expected} {question.place}\n{answer} {places}\n")
    for text, answer, _places, _seconds in others if options.show else false_alarms:
        print(f"{text}\n{answer}\n")


def ask(url: str, question: str) -> tuple[str, list[str], float]:
    """Return the answer, the rows or cells that it cites, and the seconds that it took."""
    begin = time.perf_counter()
    body = {"model": "shop", "messages": [{"role": "user", "content": question}]}
    message = call(f"{url}/v1/chat/completions", body)["choices"][0]["message"]
    seconds = time.perf_counter() - begin
    places = [item["file_citation"]["place"] for item in message.get("annotations") or []]
    return message["content"], [str(place.get("cell") or place.get("row")) for place in places], seconds


def is_computed(answer: str) -> bool:
    return any(phrase in answer for phrase in COMPUTED)


def is_right(question: TableQuestion, answer: str, places: Sequence[str]) -> bool:
    """Return whether an answer is computed, states the expected values first, and cites the right row."""
    statement = answer.partition("\n\n")[0]
    return (
        is_computed(answer)
        and all(re.search(rf"(?<![\d.,]){re.escape(text)}(?!,?\d)", statement) for text in question.expected)
        and (not question.place or list(places) == [question.place])
    )


if __name__ == "__main__":
    main()
