"""Flows: apps as data. A specification is parsed, checked as a whole, compiled, and run by one executor.

Flows access models, stores and tools by name through `Context.call`.
"""
