"""Keep contacts, devices and their status from events. No I/O."""
