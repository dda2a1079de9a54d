"""Walk through the checklist of a release: `make release-check` prints each step with ok or what to do."""

import sys

from tests.release.steps import STEPS


def main() -> int:
    faults = 0
    for name, check in STEPS.items():
        remedy = check()
        faults += remedy is not None
        print(f"{name}: {remedy or 'ok'}", flush=True)
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
