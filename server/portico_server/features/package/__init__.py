"""Packages a deployed app as one archive: its pinned requirements, and the files that run it elsewhere."""
