"""Connects a command to the WebSocket of a running kff-live."""

import os

from websockets.exceptions import InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect

from kff_live.protocols.errors import UserError


def connect_to(url: str, token: str) -> ClientConnection:
    """A connection, with the token or that of $KFF_TOKEN.

    Raises:
        UserError: there is no runtime at the address, or it refuses.
    """
    token = token or os.environ.get("KFF_TOKEN", "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # Directly, since a proxy from the environment seldom knows the way to this machine.
        return connect(url, additional_headers=headers, compression=None, open_timeout=5, proxy=None)
    except (InvalidURI, ValueError):  # ValueError: its port
        raise UserError(f"--url: {url!r} is not a WebSocket address such as ws://127.0.0.1:8765") from None
    except InvalidHandshake as error:
        raise UserError(f"{url} refuses the connection: {error}") from None
    except OSError as error:
        raise UserError(f"{url}: {error.strerror or error}; start it with  kff-live") from None
