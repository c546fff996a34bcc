"""Adapters: small sets of weights in addition to those of a model. Each adapter has its own model name.

Validates imported adapters, stores them by content, and converts them for engines. NumPy is imported only when tensors
are computed, never on import of a module.
"""
