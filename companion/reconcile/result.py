"""Hold what a reconciliation of one node found wrong."""

from dataclasses import asdict, dataclass

from companion.text import Json

_JSON_NAMES = {"stored": "known", "added": "found"}
"""The names of fields in JSON and logs, where they differ."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Count the contacts of one comparison.

    `stored` were live in the store before. `gone` are missing in OpenSIPS, `added` were missing in the store,
    `refreshed` had a newer registration, `enriched` got a SIP instance. `unparsable` ones of the dump were left out;
    for `dropped` corrections there was no room. `refused` says why nothing was corrected, "" when it was.
    """

    node: str
    stored: int = 0
    in_dump: int = 0
    gone: int = 0
    added: int = 0
    refreshed: int = 0
    enriched: int = 0
    unparsable: int = 0
    dropped: int = 0
    seconds: float = 0.0
    up_since: int = 0
    refused: str = ""

    def __str__(self) -> str:
        fields = self.to_json()
        numbers = ", ".join(f"{fields[name]} {name}" for name in ("gone", "found", "refreshed", "enriched"))
        text = f"{self.node}: {self.stored} contacts known, {self.in_dump} in OpenSIPS; {numbers}"
        left_out = f"; {self.unparsable} that can not be read" if self.unparsable else ""
        dropped = f"; no room for {self.dropped} corrections" if self.dropped else ""
        refused = f"; nothing was corrected: {self.refused}" if self.refused else ""
        return f"{text} ({self.seconds:.1f} s){left_out}{dropped}{refused}"

    def to_json(self) -> Json:
        """Return the fields under their names in JSON and logs."""
        return {_JSON_NAMES.get(name, name): value for name, value in asdict(self).items()}

    @property
    def is_complete(self) -> bool:
        """Return whether all that was wrong is on its way to be corrected."""
        return not self.refused and not self.dropped
