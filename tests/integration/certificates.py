"""Make certificates of 127.0.0.1 that an authority of our own signed."""

import shutil
import subprocess
from pathlib import Path
from typing import Final, Self

import pytest

NEW_KEY: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")


class Certificates:
    """Hold the files of an authority, and of a server with its certificate."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self._ca_key = folder / "ca-key.pem"

    @classmethod
    def make(cls, folder: Path) -> Self:
        """Make an authority, and sign the certificate of a server."""
        if not shutil.which("openssl"):
            pytest.skip("no openssl to make a certificate with")
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder)
        _request("-subj", "/CN=authority", "-keyout", made._ca_key, "-out", made.ca)
        signer = ("-CA", made.ca, "-CAkey", made._ca_key, "-addext", "subjectAltName=IP:127.0.0.1")
        _request("-subj", "/CN=server", *signer, "-keyout", made.key, "-out", made.certificate)
        return made


def _request(*options: str | Path) -> None:
    subprocess.run(["openssl", "req", "-x509", *NEW_KEY, *map(str, options)], check=True, capture_output=True)
