"""How an extractive answer is cut to its number of tokens."""

import re

import pytest

from portico_server.features.answers.length import count_tokens, cut_to_length

ENGLISH = "> Our bakery opened in 1987. Bake the bread at 230 degrees for forty minutes. [1]"
CHINESE = "> 我们的工坊每天制作三百个月饼。馅料由李师傅准备，烤箱的温度是二百二十度。 [2]"
CODE = "> Run this:\n>\n> ```bash\n> oven start --heat 230\n> oven stop\n> ```\n>\n> [1]"
ROW = "> | Bread | Price |\n> | --- | --- |\n> | Rye loaf with seeds | 4.20 [3] |"


def test_without_a_limit_or_with_room_an_answer_stays_whole() -> None:
    pieces = (ENGLISH, f"\n\n{CHINESE}")
    tokens = count_tokens("".join(pieces))
    for limit in (None, tokens, tokens + 1):
        cut_answer = cut_to_length(pieces, limit)
        assert (cut_answer.pieces, cut_answer.tokens, cut_answer.cut) == (pieces, tokens, False)
        assert cut_answer.finish_reason == "stop"


@pytest.mark.parametrize(
    "piece", [ENGLISH, CHINESE, CODE, ROW, "This is not in these documents.", "没有相关内容。"]
)
def test_a_truncated_answer_fits_its_token_limit_and_is_a_prefix(piece: str) -> None:
    token_count = count_tokens(piece)
    text_before = ""
    for limit in range(1, token_count):
        cut_answer = cut_to_length((piece,), limit)
        text = "".join(cut_answer.pieces)
        assert cut_answer.cut and cut_answer.finish_reason == "length"
        assert cut_answer.tokens == count_tokens(text) <= limit
        unmarked_text = re.sub(r"(\n> ```|)(?: |\n>\n> )\[\d\](?: \|)?$", "", text)
        assert piece.startswith(unmarked_text)
        assert len(unmarked_text) >= len(text_before)
        text_before = unmarked_text if not unmarked_text.endswith("```") else text_before


@pytest.mark.parametrize(
    ("piece", "limit", "expected"),
    [
        (ENGLISH, 12, "> Our bakery opened in 1987. [1]"),
        (ENGLISH, 18, "> Our bakery opened in 1987. Bake the bread at 230 degrees for forty [1]"),
        (ENGLISH, 6, "> Our bakery opened [1]"),
        (ENGLISH, 1, ""),
        (CHINESE, 16, "> 我们的工坊每天制作三百个月饼。 [2]"),
        (CODE, 17, "> Run this:\n>\n> ```bash\n> oven start --heat 230\n> ```\n>\n> [1]"),
    ],
)
def test_an_answer_is_truncated_after_a_sentence_line_or_word(piece: str, limit: int, expected: str) -> None:
    assert "".join(cut_to_length((piece,), limit).pieces) == expected


def test_a_second_quotation_is_cut_or_omitted() -> None:
    pieces = (ENGLISH, "\n\n> Mrs. Huber keeps the keys of the house. [2]")
    first = count_tokens(ENGLISH)
    assert cut_to_length(pieces, first).pieces == (ENGLISH,)
    assert cut_to_length(pieces, first + 6).pieces == (ENGLISH, "\n\n> Mrs. Huber keeps [2]")
