"""What the nodes report about themselves and the instances on them."""
