"""Where a phone in the same network finds the page: its address, and that address as a picture of characters."""

import socket
from contextlib import suppress
from io import StringIO

ELSEWHERE = ("192.0.2.1", 9)  # an address of no machine (RFC 5737): a UDP socket sends nothing when it connects


def network_address() -> str:
    """This machine's IPv4 address in the network that it reaches others by; "" where it has none."""
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)
        found = str(probe.getsockname()[0])
        return "" if found.startswith("127.") else found
    return ""


def qr_code(url: str) -> str:
    """The QR code of a URL in half blocks, for a terminal; "" where the package segno is not installed."""
    with suppress(ImportError):
        import segno

        picture = StringIO()
        segno.make(url, error="m").terminal(out=picture, border=2, compact=True)
        return picture.getvalue()
    return ""
