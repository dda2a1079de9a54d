"""A SIP phone that tests register on a real or simulated OpenSIPS."""
