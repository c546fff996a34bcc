"""Storage of bytes under their SHA-256, in a folder or in a bucket with a cache. Other modules store the database
rows.

May import db, core and the settings.
"""
