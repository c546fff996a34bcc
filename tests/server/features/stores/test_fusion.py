"""Fusion: properties over many random rankings."""

import random

import pytest

from portico_server.features.stores.fusion import fuse_reciprocal, fuse_weighted, scale_scores

SEEDS = range(50)


def ranking(chance: random.Random, size: int) -> list[tuple[int, float]]:
    scores = {chance.randrange(200): round(chance.random() * 20, 1) for _ in range(size)}
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))


@pytest.mark.parametrize("seed", SEEDS)
def test_fused_lists_are_ordered_complete_and_within_bounds(seed: int) -> None:
    chance = random.Random(seed)
    lexical, dense = ranking(chance, chance.randrange(30)), ranking(chance, chance.randrange(30))
    for fused in (
        fuse_weighted(scale_scores(lexical), scale_scores(dense), chance.random()),
        fuse_reciprocal([lexical, dense]),
    ):
        assert {chunk for chunk, _ in fused} == {chunk for chunk, _ in [*lexical, *dense]}
        assert fused == sorted(fused, key=lambda item: (-item[1], item[0]))
        assert all(0 <= score <= 1 for _, score in fused)


@pytest.mark.parametrize("seed", SEEDS)
def test_scaling_and_fusing_with_an_empty_list_keep_the_order(seed: int) -> None:
    ranked_chunks = ranking(random.Random(seed), 20)
    order = [chunk for chunk, _ in ranked_chunks]
    assert [chunk for chunk, _ in scale_scores(ranked_chunks)] == order
    assert [chunk for chunk, _ in fuse_weighted(scale_scores(ranked_chunks), [], 0.2)] == order
    assert [chunk for chunk, _ in fuse_reciprocal([ranked_chunks, []])] == order


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_arrival_does_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    lexical, dense = ranking(chance, 20), ranking(chance, 20)
    shuffled = chance.sample(lexical, len(lexical)), chance.sample(dense, len(dense))
    assert fuse_weighted(lexical, dense, 0.2) == fuse_weighted(*shuffled, 0.2)


def test_scaled_scores_start_at_one_and_end_at_zero_or_above_the_floor() -> None:
    assert scale_scores([(1, 8.0), (2, 4.0), (3, 2.0)]) == [(1, 1.0), (2, pytest.approx(1 / 3)), (3, 0.0)]
    assert scale_scores([(1, 8.0), (2, 4.0)], 0.0) == [(1, 1.0), (2, 0.5)]
    assert scale_scores([(1, 3.0), (2, 3.0)]) == [(1, 1.0), (2, 1.0)]
    assert scale_scores([]) == []


def test_a_chunk_in_both_lists_ranks_first() -> None:
    fused = fuse_weighted([(1, 1.0), (2, 0.9)], [(2, 1.0), (3, 0.5)], 0.5)
    assert [chunk for chunk, _ in fused] == [2, 1, 3]
    assert fused[0][1] == pytest.approx(0.95)


def test_the_first_of_every_list_scores_one_by_reciprocal_rank() -> None:
    assert fuse_reciprocal([[(7, 0.1), (8, 0.05)], [(7, 99.0)]])[0] == (7, pytest.approx(1.0))


def test_equal_scores_are_ordered_by_id() -> None:
    assert [chunk for chunk, _ in fuse_weighted([(9, 1.0), (4, 1.0)], [(9, 1.0), (4, 1.0)], 0.3)] == [4, 9]
