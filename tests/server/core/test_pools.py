"""Threads for blocking work, and the memory that they keep."""

from __future__ import annotations

import platform

import psutil
import pytest

from portico_server.core import pools

SIZE = 1_000
COUNT = 100_000
"""A hundred megabytes of blocks that are too large for Python's own allocator."""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other allocators give back by themselves or not at all"
)
async def test_memory_freed_by_a_pool_thread_is_returned_to_the_system() -> None:
    process = psutil.Process()
    blocks = await pools.INDEX.run(lambda: [bytes(SIZE) for _ in range(COUNT)])
    memory_before = process.memory_info().rss
    block_sample = blocks[:: COUNT // 10]  # spread over the arena, so that it cannot shrink from its end
    await pools.INDEX.run(blocks.clear)
    await pools.release_memory()
    assert process.memory_info().rss < memory_before - SIZE * COUNT / 2
    assert len(block_sample) == 10
