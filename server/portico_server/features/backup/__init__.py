"""Copies of all data: a home folder as one archive, or migrated into a PostgreSQL database and back.

A backup is copied while the daemon runs, and restored completely or not at all.

An archive has the layout of a home: ``portico.db``, ``blobs/``, ``artifacts/``, ``adapters/``, ``finetuned/``,
``models/`` if requested, and a ``manifest.json`` with the SHA-256 of each file. Indexes are not included, because they
can be rebuilt.
"""
