"""Check names and docstrings: `python -m tests.lint` prints what breaks a rule and exits with 1."""

import sys
from pathlib import Path

from tests.lint import docstrings, names
from tests.lint.source import read_sources

PROJECT = Path(__file__).parents[2]


def main() -> int:
    sources = read_sources(PROJECT, ("companion", "tests"))
    product = [source for source in sources if source.place.startswith("companion/")]
    faults = [*names.forbidden(sources), *names.classes_of_two_meanings(product), *docstrings.without_verb(product)]
    for fault in faults:
        print(fault)
    print(f"{docstrings.share_with_verb(product):.1%} of {docstrings.count(product)} docstrings open with a verb")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
