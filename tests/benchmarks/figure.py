"""Define one line of a benchmark's table."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """Hold one line of the table: its name, its value as text, and as a number where it is compared with others."""

    name: str
    value: str
    number: float = 0.0
