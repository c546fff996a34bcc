"""The engine `static`: embeddings from wordllama's word vectors, without running a model."""
