"""Where the inputs come from: the inventory, experiment files, models."""
