"""Packages a deployed app as one archive: its pinned requirements, and the files that run it elsewhere.

This package is a layer above models, knowledge, tools and apps, and reads their contents, like
`portico_server.reconcile`.
"""
