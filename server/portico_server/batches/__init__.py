"""Batches: a file of requests, answered one after another while nobody waits, and a file of answers at the end.

May import runs, db and core. Files, and the gateway that a request goes through, come through the protocols in `spec`.
"""
