"""Turn a plan into a launch spec for each instance, and replay recorded runs."""
