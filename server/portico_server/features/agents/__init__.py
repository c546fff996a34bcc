"""Agents: a model with instructions, tools, memory and an output format, declared as data.

Agents access models, stores and tools by name.
"""
