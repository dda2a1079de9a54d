"""Start `companion`, which is `python -m companion` too."""

import sys


def main() -> None:
    """Run the command line; an error of ours ends it with one line and its exit code, a closed pipe silently."""
    try:
        # imported here, so that Ctrl-C during its half second ends as quietly as later
        from companion.cli.main import app  # noqa: PLC0415
        from companion.credentials import mask  # noqa: PLC0415
        from companion.errors import CompanionError  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    try:
        app()
    except CompanionError as error:
        sys.stderr.write(f"error: {mask(str(error))}\n")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
