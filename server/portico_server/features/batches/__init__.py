"""Batches: a file of requests that are answered in the background, and files with the results at the end.

The protocols in `spec` provide the files and the gateway for requests.
"""
