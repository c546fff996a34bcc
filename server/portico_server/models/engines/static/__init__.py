"""The engine `static`: word vectors that need no model to run, through wordllama."""
