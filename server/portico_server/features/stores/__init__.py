"""From documents to passages: stores, and the steps parse → chunk → embed → index → search → trace.

Models are called by name, through ``context.call``.
"""
