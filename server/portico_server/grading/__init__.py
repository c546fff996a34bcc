"""Judging what a model said, for training and for evaluations: what graders are, and what they give.

Imports core alone; models are asked by name through the context, Python runs in the sandbox that the caller hands in.
"""
