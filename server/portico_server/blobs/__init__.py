"""Where bytes lie under their SHA-256: a folder, or a bucket with a cache. Rows that stand for them are others' work.

May import db, core and the settings.
"""
