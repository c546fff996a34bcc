"""Grades model answers for training and evaluations: the grader types and their results.

Models are called by name through the context; Python runs in the sandbox that the caller passes.
"""
