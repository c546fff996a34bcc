"""How an extractive answer is cut to its number of tokens."""

import re

import pytest

from portico_server.apps.answer.length import count_tokens, cut_to_length

ENGLISH = "> Our bakery opened in 1987. Bake the bread at 230 degrees for forty minutes. [1]"
CHINESE = "> 我们的工坊每天制作三百个月饼。馅料由李师傅准备，烤箱的温度是二百二十度。 [2]"
CODE = "> Run this:\n>\n> ```bash\n> oven start --heat 230\n> oven stop\n> ```\n>\n> [1]"
ROW = "> | Bread | Price |\n> | --- | --- |\n> | Rye loaf with seeds | 4.20 [3] |"


def test_without_a_limit_or_with_room_an_answer_stays_whole() -> None:
    pieces = (ENGLISH, f"\n\n{CHINESE}")
    tokens = count_tokens("".join(pieces))
    for limit in (None, tokens, tokens + 1):
        found = cut_to_length(pieces, limit)
        assert (found.pieces, found.tokens, found.cut) == (pieces, tokens, False)
        assert found.finish_reason == "stop"


@pytest.mark.parametrize(
    "piece", [ENGLISH, CHINESE, CODE, ROW, "This is not in these documents.", "没有相关内容。"]
)
def test_a_truncated_answer_fits_its_token_limit_and_is_a_prefix(piece: str) -> None:
    whole = count_tokens(piece)
    before = ""
    for limit in range(1, whole):
        found = cut_to_length((piece,), limit)
        text = "".join(found.pieces)
        assert found.cut and found.finish_reason == "length"
        assert found.tokens == count_tokens(text) <= limit
        said = re.sub(r"(\n> ```|)(?: |\n>\n> )\[\d\](?: \|)?$", "", text)
        assert piece.startswith(said)
        assert len(said) >= len(before)
        before = said if not said.endswith("```") else before


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


def test_a_second_quotation_is_cut_or_left_out() -> None:
    pieces = (ENGLISH, "\n\n> Mrs. Huber keeps the keys of the house. [2]")
    first = count_tokens(ENGLISH)
    assert cut_to_length(pieces, first).pieces == (ENGLISH,)
    assert cut_to_length(pieces, first + 6).pieces == (ENGLISH, "\n\n> Mrs. Huber keeps [2]")
