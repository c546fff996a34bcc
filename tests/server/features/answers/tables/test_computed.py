"""Questions that a store's app computes from a table, and questions that it does not, through the public API."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.server.api.test_rights import waited
from tests.server.features.readers.office import sheets

from portico_server.embedded import embedded

KEYS = {"boss": "pk-boss-0123456789", "sales": "pk-sales-0123456789"}
CONFIGURATION = {
    "models": [{"name": "small", "source": "fake://", "aliases": ["default"], "answers": "quote"}],
    "keys": [
        {"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]},
        {
            "name": "sales",
            "key": KEYS["sales"],
            "scopes": ["chat", "stores:*:read", "apps:*:call"],
            "filters": {"shared": {"type": "eq", "key": "team", "value": "sales"}},
        },
    ],
    "stores": [
        {"name": name, "embedding_model": "", "app": True}
        for name in ("shop", "office", "years", "shared", "large")
    ],
}

PRICES = {"Lamp": 1_200.5, "Desk": 3_400.0, "Chair": 899.9}
COUNTRIES = ("Norway", "Sweden", "New Zealand")


def orders(count: int = 400) -> list[dict[str, Any]]:
    """Return orders as values."""
    rng = random.Random(3)
    rows = []
    for number in range(count):
        product, quantity = rng.choice(tuple(PRICES)), rng.randint(1, 9)
        rows.append(
            {
                "id": f"O-{1000 + number}",
                "date": date(2023, 1, 1) + timedelta(days=rng.randrange(730)),
                "customer": f"Customer {rng.randint(1, 40)}",
                "country": rng.choice(COUNTRIES),
                "product": product,
                "quantity": quantity,
                "amount": round(quantity * PRICES[product] * rng.choice((1, 0.9, 0.75)) + number / 100, 2),
                "status": rng.choice(("Shipped", "Pending")),
            }
        )
    return rows


ORDERS = orders()
EMPTY_ROWS = 40
"""Number of orders before each empty row."""


def orders_csv() -> str:
    """Return a file with units, separators, empty rows, and a row of totals at its end."""
    lines = ["Order ID,Order date,Customer,Country,Product,Quantity,Unit price,Amount,Status"]
    for number, row in enumerate(ORDERS, 1):
        lines.append(
            f"{row['id']},{row['date']},{row['customer']},{row['country']},{row['product']},{row['quantity']},"
            f'"{PRICES[row["product"]]:,.2f} kr","{row["amount"]:,.2f} kr",{row["status"]}'
        )
        if number % EMPTY_ROWS == 0:
            lines.append("")
    return "\n".join([*lines, f'Total,,,,,,,"{amount_of(ORDERS):,.2f} kr",'])


def row_of(order: Mapping[str, Any]) -> int:
    """Return the row of an order in the file."""
    number = ORDERS.index(order)  # type: ignore[arg-type]
    return 2 + number + number // EMPTY_ROWS


def amount_of(rows: list[dict[str, Any]]) -> float:
    return sum(row["amount"] for row in rows)


def having(**values: Any) -> list[dict[str, Any]]:
    return [row for row in ORDERS if all(row[name] == value for name, value in values.items())]


def quantities(low: int, high: int) -> int:
    return sum(low <= row["quantity"] <= high for row in ORDERS)


LARGEST = max(ORDERS, key=lambda row: row["amount"])

SHEETS = {
    "销售": [
        ["2024 年销售"],
        ["单号", "日期", "商品", None, "数量（件）", "金额（元）"],
        [None, None, "名称", "类别", None, None],
        ["S1", "2024/3/1", "拿铁", "饮品", 3, 84.0],
        ["S2", "2024/3/2", "可颂", "糕点", 2, 37.0],
        ["S3", "2024/4/9", "蛋糕", None, 1, 36.5],
        ["S4", "2024/5/6", "美式", "饮品", 12, 1264.0],
        ["合计", None, None, None, 18, 1421.5],
    ],
    "Staff": [
        ["Name", "Department", "Salary (EUR)", "Hired"],
        ["Ada Berg", "IT", "52.000,50", "5 March 2019"],
        ["Bo Dahl", "Finance", "48.200,00", "17 Nov 2021"],
        ["Cai Holm", "IT", "61.300,75", "1 February 2020"],
        ["Dag Moe", "Finance", "n/a", "23 August 2022"],
    ],
}
MERGED = {"销售": ["A1:F1", "A2:A3", "B2:B3", "C2:D2", "D5:D6"]}

FILES: Mapping[str, Mapping[str, tuple[str | bytes, Mapping[str, Any]]]] = {
    "shop": {
        "orders.csv": (orders_csv(), {}),
        "handbook.md": (
            "# Orders\n\nA customer can place at most five orders per day. Amounts above 20,000 kr need a second "
            "signature. Customers have 30 days to return an order.\n",
            {},
        ),
    },
    "office": {"门店.xlsx": (sheets(SHEETS, merged=MERGED), {})},
    "years": {
        "fees_2023.csv": ("Boat,Berth,Fee\nSwallow,A1,120\nAmazon,A2,150\nGull,B1,90\n", {}),
        "fees_2024.csv": ("Boat,Berth,Fee\nSwallow,A1,130\nAmazon,A2,160\nGull,B1,95\n", {}),
        "prices.csv": ("Item,Price,Currency\nRope,12,EUR\nAnchor,90,USD\nSail,400,EUR\n", {}),
        "catch.csv": ("Year,Fish,Tons\n2023,Cod,12.5\n2023,Hake,3\n2024,Cod,9\n", {}),
        "points.csv": ("Team;Points\nRed;1.200\nBlue;3.400\nGreen;2.100\n", {}),
        "visits.csv": ("Guest,Arrival\nAnn,03/04/2024\nBob,05/06/2024\nCid,01/02/2024\n", {}),
    },
    "shared": {
        "calls.csv": ("Call,Minutes\nA-1,10\nA-2,20\nA-3,30\n", {"team": "sales"}),
        "board calls.csv": ("Call,Minutes\nB-1,500\nB-2,700\n", {"team": "board"}),
    },
    "large": {
        "readings.csv": (
            "Sensor,Reading\n" + "\n".join(f"s{number % 7},{number % 13}" for number in range(260_000)),
            {},
        )
    },
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with embedded(CONFIGURATION) as url, httpx.Client(base_url=url, timeout=120) as boss:
        boss.headers["authorization"] = f"Bearer {KEYS['boss']}"
        for store, files in FILES.items():
            store_id = boss.get(f"/api/stores/{store}").raise_for_status().json()["id"]
            for name, (content, attributes) in files.items():
                response = boss.post(
                    "/v1/files", files={"file": (name, content)}, data={"purpose": "assistants"}
                )
                body = {"file_id": response.raise_for_status().json()["id"], "attributes": attributes}
                boss.post(f"/v1/vector_stores/{store_id}/files", json=body).raise_for_status()
        for store in FILES:
            waited(boss, store)
        yield url


def ask(url: str, app: str, question: str, key: str = "boss", **options: Any) -> dict[str, Any]:
    """Return the message of the answer."""
    body = {"model": app, "messages": [{"role": "user", "content": question}], **options}
    headers = {"authorization": f"Bearer {KEYS[key]}"}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert response.status_code == 200, response.text
    message: dict[str, Any] = response.json()["choices"][0]["message"]
    return message


def is_computed(message: Mapping[str, Any]) -> bool:
    return any(words in message["content"] for words in ("Computed from ", "计算：", "計算："))


def places(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [citation["file_citation"]["place"] for citation in message.get("annotations") or ()]


IN_2024 = [row for row in ORDERS if row["date"].year == 2024]
SPRING = [row for row in ORDERS if date(2024, 3, 1) <= row["date"] <= date(2024, 4, 15)]
BY_COUNTRY = {country: amount_of(having(country=country)) for country in COUNTRIES}
BEST_COUNTRY = max(BY_COUNTRY, key=BY_COUNTRY.__getitem__)
BEST_AMOUNT = BY_COUNTRY[BEST_COUNTRY]
PENDING = having(country="Norway", status="Pending")
ELSEWHERE = 400 - len(having(country="New Zealand"))
EXPENSIVE = [row for row in ORDERS if row["amount"] > 10_000]


@pytest.mark.parametrize(
    ("app", "question", "value", "used"),
    [
        ("shop", "What is the total amount of all orders?", f"{amount_of(ORDERS):,.2f} kr", 400),
        ("shop", "What is the sum of the order amounts?", f"{amount_of(ORDERS):,.2f} kr", 400),
        ("shop", "How many orders are there?", "400", 400),
        ("shop", "How many orders came from Norway?", f"{len(having(country='Norway'))}.", None),
        ("shop", "How many orders came from Norway or Sweden?", f"{ELSEWHERE}.", None),
        ("shop", "How many orders were not from New Zealand?", f"{ELSEWHERE}.", None),
        ("shop", "How many orders from Norway are pending?", f"{len(PENDING)}.", None),
        ("shop", "How many orders were placed in 2024?", f"{len(IN_2024)}.", len(IN_2024)),
        ("shop", "How many orders were placed on or after 2024-01-01?", f"{len(IN_2024)}.", len(IN_2024)),
        ("shop", "How many orders were placed between 1 March 2024 and 15 April 2024?", f"{len(SPRING)}.", len(SPRING)),
        ("shop", "How many orders were placed from March to April 2024?", None, None),
        ("shop", "How many orders were placed in Q1 2023?", None, None),
        ("shop", "How many orders were placed in 2031?", "is 0.", 0),
        ("shop", "How many orders were placed between 1 March and 15 April 2024?", f"{len(SPRING)}.", len(SPRING)),
        ("shop", "How many orders have an amount above 10,000 kr?", f"{len(EXPENSIVE)}.", None),
        ("shop", "How many orders have a quantity of at least five?", f"{quantities(5, 9)}.", None),
        ("shop", "How many orders have a quantity between 3 and 5?", f"{quantities(3, 5)}.", None),
        ("shop", "How many different customers are there?", f"{len({r['customer'] for r in ORDERS})}.", 400),
        ("shop", "How many customers are there?", f"{len({r['customer'] for r in ORDERS})}.", 400),
        ("shop", "What is the average quantity in 2024?", None, len(IN_2024)),
        ("shop", "Which product has the highest price?", "“Desk”", 400),
        ("shop", "What is the cheapest product?", "“Chair”", 400),
        ("shop", "Which country has the highest total amount?", f"“{BEST_COUNTRY}” ({BEST_AMOUNT:,.2f} kr)", None),
        ("shop", "When was the latest order?", str(max(row["date"] for row in ORDERS)), 400),
        ("years", "What is the sum of tons in 2023?", "“Year” is 2023", 2),
        ("office", "销售的总金额是多少？", "1,421.5 元", 4),
        ("office", "饮品的总数量是多少？", "15 件", 2),
        ("office", "金额超过五十元的销售记录有多少条？", "行数是 2。", 2),
        ("office", "2024年3月的平均金额是多少？", "60.5 元", 2),
        ("office", "有多少種商品？", "行数是 4。", 4),
        ("office", "哪個商品的金額最高？", "「金额」的最大值是 1,264.0 元", 4),
        ("office", "What is the average salary in IT?", "56,650.625 EUR", 2),
        ("office", "Who has the highest salary?", "“Cai Holm”", 3),
        ("office", "糕点的总金额是多少？", "73.5 元", 2),
        ("office", "How many employees were hired after 2020?", "is 2.", 2),
    ],
)  # fmt: skip
def test_a_computed_answer_shows_its_value_and_the_rows_used(
    url: str, app: str, question: str, value: str | None, used: int | None
) -> None:
    message = ask(url, app, question)
    assert is_computed(message), message["content"]
    assert value is None or value in message["content"], message["content"]
    if used is not None:
        assert f"Rows used: {used} of" in message["content"] or f"中的 {used} 行" in message["content"], (
            message
        )
    assert 1 <= len(places(message)) <= 3


@pytest.mark.parametrize(
    ("app", "question", "place"),
    [
        ("shop", "What is the largest order amount?", {"row": row_of(LARGEST), "label": f"row {row_of(LARGEST)}"}),
        ("shop", "Which order has the highest amount?", {"row": row_of(LARGEST)}),
        ("office", "最高金额是多少？", {"sheet": "销售", "cell": "F7", "row": 7}),
        ("office", "What is the lowest salary?", {"sheet": "Staff", "cell": "C3"}),
    ],
)  # fmt: skip
def test_the_largest_or_smallest_value_is_cited_by_its_row_or_cell(
    url: str, app: str, question: str, place: dict[str, Any]
) -> None:
    message = ask(url, app, question)
    [citation] = places(message)
    assert place.items() <= citation.items(), message


def test_a_cited_row_is_in_the_text_of_the_file_where_its_offsets_say(url: str) -> None:
    message = ask(url, "shop", "What is the largest order amount?")
    [citation] = message["annotations"]
    citation = citation["file_citation"]
    assert LARGEST["id"] in citation["quote"]
    headers = {"authorization": f"Bearer {KEYS['boss']}"}
    store = httpx.get(f"{url}/api/stores/shop", headers=headers).json()["id"]
    path = f"{url}/v1/vector_stores/{store}/files/{citation['file_id']}/content"
    parts = httpx.get(path, headers=headers).raise_for_status().json()["data"]
    text = "\n".join(part["text"] for part in parts)
    line = text[citation["place"]["start"] : citation["place"]["end"]]
    assert line.startswith(LARGEST["id"]) and "\n" not in line


@pytest.mark.parametrize(
    ("app", "question"),
    [
        ("shop", "How many orders can a customer place per day?"),
        ("shop", "How many days do customers have to return an order?"),
        ("shop", "How is the total amount calculated?"),
        ("shop", "What is the total profit?"),
        ("shop", "What is the amount of order O-1042?"),
        ("shop", "How many orders came from Iceland?"),
        ("shop", "How many orders were placed last month?"),
        ("shop", "How many orders were placed in March?"),
        ("shop", "How many lamps were ordered?"),
        ("shop", "What is the second highest amount?"),
        ("shop", "What is the average amount per country?"),
        ("shop", "What is the total unit price?"),
        ("shop", "How many orders are above 1,000 kr?"),
        ("shop", "How many orders are pending or from Norway?"),
        ("shop", "What is the total amount of orders from Norway, and of orders from Sweden?"),
        ("shop", "Which customer has the highest quantity?"),
        ("shop", "Wie viele Bestellungen kamen aus Norway?"),
        ("office", "总金额超过一千元的订单需要谁批准？"),
        ("office", "每个商品的总金额是多少？"),
        ("office", "2023年以后的销售记录有多少条？"),
        ("office", "销售的总利润是多少？"),
        ("years", "What is the total fee?"),
        ("years", "What is the highest price?"),
        ("years", "What is the highest number of points?"),
        ("years", "What are the total points?"),
        ("years", "How many guests have an arrival in April 2024?"),
        ("large", "How many readings are there?"),
        ("large", "What is the highest reading?"),
    ],
)
def test_a_question_that_is_not_clear_is_answered_from_passages(url: str, app: str, question: str) -> None:
    assert not is_computed(ask(url, app, question))


@pytest.mark.parametrize(
    ("question", "expected"),
    [("What is the total amount?", False), ("What is the total amount of all orders?", True)],
)
def test_a_follow_up_is_computed_only_if_it_names_its_subject(
    url: str, question: str, expected: bool
) -> None:
    messages = [
        {"role": "user", "content": "How many orders came from Norway?"},
        {"role": "assistant", "content": "The number of rows is 120."},
        {"role": "user", "content": question},
    ]
    assert is_computed(ask(url, "shop", question, messages=messages)) is expected
    assert is_computed(ask(url, "shop", question))


def test_a_question_that_names_one_of_several_tables_is_computed(url: str) -> None:
    assert "385" in ask(url, "years", "What is the total fee in fees_2024.csv?")["content"]


def test_a_key_with_a_filter_computes_only_from_files_that_it_may_read(url: str) -> None:
    question = "What is the total number of minutes?"
    assert "is 60." in ask(url, "shared", question, "sales")["content"]
    assert not is_computed(ask(url, "shared", question, "boss"))  # two tables fit
    assert (
        "is 1,200." in ask(url, "shared", "What is the total of minutes of board calls?", "boss")["content"]
    )
    assert not is_computed(ask(url, "shared", "What is the total of minutes of board calls?", "sales"))


def test_a_request_for_json_is_answered_by_the_model_without_computation(url: str) -> None:
    form = {"type": "json_object"}
    message = ask(url, "shop", "How many orders are there?", response_format=form)
    assert not is_computed(message)


def test_a_computed_answer_is_streamed_and_costs_no_prompt(url: str) -> None:
    question = "How many orders are there?"
    body = {"model": "shop", "messages": [{"role": "user", "content": question}], "stream": True}
    headers = {"authorization": f"Bearer {KEYS['boss']}"}
    response = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert "The number of rows is 400." in response.text
    body = {"model": "shop", "messages": [{"role": "user", "content": question}]}
    usage = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60).json()["usage"]
    assert usage["prompt_tokens"] == 0


@pytest.mark.slow
def test_the_questions_of_the_benchmark_are_computed_without_a_false_alarm(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    line = [sys.executable, str(daemons.ROOT / "bench" / "tables.py"), "--seed", "5", "--json", str(report)]
    done = subprocess.run(
        line, env=daemons.environment(), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    [row] = json.loads(report.read_text(encoding="utf-8"))["rows"]
    assert (row["computed"], row["others"]) == (20, 20)
    assert row["right"] >= 18, done.stdout
    assert row["false alarms"] == 0, done.stdout
