"""Read OpenSIPS' events and call its Management Interface."""
