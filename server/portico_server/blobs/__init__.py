"""Storage of bytes under their SHA-256: a folder, or a bucket with a cache. Other modules own the database rows.

May import db, core and the settings.
"""
