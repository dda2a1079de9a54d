"""Show last-mile visibility and care for the SIP and WebRTC devices behind OpenSIPS."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("opensips-companion")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
