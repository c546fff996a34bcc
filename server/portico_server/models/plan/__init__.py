"""Plans which engine and parameters a model uses on a machine (this machine or another), and why.

Pure, except `files`, which reads headers. This package can import the plans of single engines, but never an engine.
"""
