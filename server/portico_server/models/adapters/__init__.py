"""Adapters: small sets of weights on top of a model's own, each with its own model name.

Validates imported adapters, stores them by content, and converts them for engines. NumPy is imported only where
tensors are computed, never with a module.
"""
