"""Start a demo of its own, take the pictures, and end it: `make pictures`. It needs Chromium and its driver."""

import sys
import tempfile
from pathlib import Path

from tests.pictures.demo import run_demo
from tests.pictures.steps import take_pictures

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, run_demo(Path(folder)) as demo:
        for file in take_pictures(demo, Path(folder), FOLDER):
            print(f"{file.name} {file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
