"""From documents to passages: files, stores, and the steps parse → chunk → embed → index → search → trace.

May import runs, db and core; calls engines, tools and apps by name, through ``context.call``.
"""
