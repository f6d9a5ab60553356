"""From a plan to what each node is given to start, and the replay of a recorded run."""
