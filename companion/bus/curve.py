"""Make CURVE key pairs and store them as files; only the owner may read the secret key."""

import os
from pathlib import Path
from typing import NamedTuple

import zmq

from companion.errors import UsageError


def make_pair(folder: Path, name: str) -> str:
    """Write `name.secret` and `name.public` and return the public key as Z85 text.

    Raises UsageError when the files exist already.
    """
    public, secret = zmq.curve_keypair()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(folder / f"{name}.secret", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{folder / name}.secret exists already: move it away to make a new pair") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(secret)
    (folder / f"{name}.public").write_bytes(public)
    return public.decode()


class Curve(NamedTuple):
    """Hold CURVE keys as Z85 text.

    A publisher has `clients`, the public keys that may connect; a subscriber has `server`, the publisher's public key.
    """

    secret: str
    clients: tuple[str, ...] = ()
    server: str = ""
