"""Adapters: small sets of weights on top of a model's own, each a model name of its own.

Reads and checks what people bring, keeps it by its content, makes of it what an engine takes. NumPy is imported where
tensors are computed with, never when a module is imported.
"""
