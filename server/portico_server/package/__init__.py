"""A deployed app as one archive: what it needs, pinned, and the files that run it elsewhere.

Above models, knowledge, tools and apps, which it asks what they hold, as `portico_server.reconcile` does.
"""
