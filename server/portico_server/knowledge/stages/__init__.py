"""What is done to a question before it is ranked and to the candidates after it, a file for each stage.

May import db, core, and what is light of knowledge.
"""
