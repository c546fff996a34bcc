"""The process of a model on transformers.

It runs in that engine's environment, without the daemon's packages. Its modules import only the standard library, the
packages of that environment, and each other.
"""
