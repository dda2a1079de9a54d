"""Record the SIP messages of a device on request: start, renew and stop traces on the OpenSIPS it is registered at."""
