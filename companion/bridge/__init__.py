"""OpenSIPS' wire to the bus: receive, check the shape, stamp, number, publish."""
