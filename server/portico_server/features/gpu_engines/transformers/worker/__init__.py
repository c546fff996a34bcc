"""The process of a model on the engine `transformers`.

It runs in the engine's own Python environment, without the daemon's packages. Its modules import only the standard
library, the packages of that environment, and each other.
"""
