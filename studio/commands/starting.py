"""What a start of the page does before its imports, which take seconds: it looks whether the port is free, and says so.

No torch and no gradio here, nor in what this imports.
"""

import argparse
import socket

from studio import __version__
from studio.commands.streams import tell
from studio.config import load_studio
from studio.errors import StudioError

EVERY_ADDRESS = "0.0.0.0"  # of --listen


def begin(options: argparse.Namespace) -> None:
    """Tell that the page starts. Raises StudioError where its port is taken, or its address not of this machine."""
    given = vars(options)
    host = EVERY_ADDRESS if given.get("listen") else None
    config = load_studio(host=host, port=given.get("port"))
    check_port(config.host, config.port)
    tell(f"Step-Video Studio {__version__} on port {config.port}. Loading PyTorch, which takes some seconds.")


def check_port(host: str, port: int) -> None:
    """Raise StudioError where nothing could be served there, with the reason."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
    except OSError as error:
        raise StudioError("port_taken", port=port, host=host, reason=error.strerror or str(error)) from None
