"""Links between passages by the terms they mention, without a model: found by rules, followed by a graph walk.

Imports the database and the analyser of words.
"""
