"""Which engine and which parameters a model gets on a machine, and why; for machines that are elsewhere too.

Pure, save `files`, which reads headers. May import the plans of single engines, never an engine itself.
"""
