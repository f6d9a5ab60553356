"""Random faults on the test nodes while the control loop looks after a run: `make chaos`."""
