"""Converts GGUF files, and writes new ones.

It runs in the training environment, without the daemon's packages. Its modules import only the standard library, the
packages of that environment, and each other.
"""
