"""Live through random faults in simulated time and check each removal: `make soak-removals`."""
