"""Batches: a file of requests, answered in the background, and a file with the answers at the end.

May import runs, db and core. The protocols in `spec` provide the files and the gateway for requests.
"""
