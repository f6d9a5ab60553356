"""A run's folder on the controller: its manifest, its plan, its events, its signature."""
