"""The engine `llamacpp`: the embedded default, the llama.cpp server of the xllamacpp wheel in a child process."""
