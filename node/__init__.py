"""What root runs on a node."""
