"""Sandboxes for code that a model wrote: an embedded interpreter, and notebooks in namespaces.

Code from models never runs in the daemon's own process.
"""
