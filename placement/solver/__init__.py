"""The searches: greedy and exact."""
