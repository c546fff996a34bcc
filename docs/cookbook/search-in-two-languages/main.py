"""One store, English and Chinese: words are found in other forms, and simplified characters find traditional ones."""

from portico import Client

QUESTIONS = ("baked breads", "月饼的馅", "月餅的餡", "烤箱温度", "开放时间")

with Client() as client:
    for question in QUESTIONS:
        first = client.search("bakery", question, max_num_results=1).passages[0]
        print(f"{question} -> {first.filename}: {first.text.splitlines()[-1]}")
