"""Read the inputs: the inventory, experiment files and models."""
