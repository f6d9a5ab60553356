"""The control loop: what to do about a running cluster, decided from what was wanted and what was seen."""
