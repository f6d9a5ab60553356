"""What travels to the nodes: releases of code, model files, the source of llama.cpp."""
