"""The engine and parameters of a model on a machine, and the reasons; for other machines too.

Pure, except `files`, which reads headers. This package can import the plans of single engines, but never an engine.
"""
