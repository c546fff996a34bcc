"""The engine `llamacpp`, which is installed by default: the llama.cpp server of the xllamacpp wheel, in a child
process.
"""
