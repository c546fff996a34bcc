"""Evaluations: items asked of any named object, graded answers, and searches over settings.

May import runs, grading, db and core. The protocols in core provide what it needs from apps.
"""
