"""Links between passages by what they name, without a model: found by rules, followed by a walk. Imports the database
and the analyser of words."""
