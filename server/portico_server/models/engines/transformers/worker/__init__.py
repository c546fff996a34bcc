"""The process of a model on transformers. It runs in that engine's environment, apart from the daemon's packages:
its modules import the standard library, what that environment has, and each other, nothing else.
"""
