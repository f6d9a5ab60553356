"""What the nodes report of themselves and of the instances on them."""
