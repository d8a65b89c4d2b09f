"""Addresses of Ray clusters, checked before anything costly."""

from __future__ import annotations

import socket

from codesign.errors import InputError


def require_ray(address: str, timeout_seconds: float = 1.0) -> None:
    """Make sure that something answers where a Ray cluster should be; "local" and "auto" need no check.

    Raises:
        InputError: the address is malformed, or nothing answers there.
    """
    if address in ("local", "auto"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise InputError(f"--address: {address!r} is not allowed; use local, auto, host:port or ray://host:port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout_seconds).close()
    except OSError as error:
        raise InputError(f"--address: nothing answers at {address!r} ({error.strerror or error})") from error
