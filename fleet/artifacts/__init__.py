"""What is sent to the nodes: code releases, model files, the source of llama.cpp."""
