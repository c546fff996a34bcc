"""Evaluations: items that any named object answers, graded answers, and searches for the best settings."""
