"""Chunks that need a model: written by a chat model, or put together by the vectors of their sentences.

They make chunk groups, in runs of their own, so that nothing waits for them.
"""
