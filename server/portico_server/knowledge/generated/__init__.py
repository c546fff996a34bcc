"""Chunk groups for which a model is asked: `chunks` makes them, `runs` does so for the files of a store."""
