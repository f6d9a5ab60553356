"""The searches for a plan: greedy and exact."""
