"""Which requests the page made itself: the names under which it is served, and the rule of Origin and Sec-Fetch-Site.

A browser sends cookies of this program's address with requests that any other page makes. What such a page cannot
choose is these headers: Host is the address that the browser asked, Origin and Sec-Fetch-Site the page that asked. An
absent header refuses nothing (plain http on a LAN sends no Sec-Fetch-Site, a program neither): cookie or key decide.
"""

import re
import socket
from collections.abc import Callable, Iterable, Mapping

import psutil

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # to listen on; nothing to be reached under
_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?)(?::(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def machine_names() -> set[str]:
    """Every address of this machine as it stands in a URL, and its own name with and without ".local"."""
    found = {socket.gethostname().lower(), f"{socket.gethostname().lower()}.local"}
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            text = address.address.partition("%")[0]  # fe80::1%eth0
            if address.family == socket.AF_INET:
                found.add(text)
            elif address.family == socket.AF_INET6:
                found.add(f"[{text.lower()}]")
    return found


class ServedHosts:
    """The names under which the page is served, each with its scheme. A name may be added at any time.

    allowed: names besides the loopback ones; one that is reached by https is written https://NAME. own: asked at each
    unknown name, since a machine's addresses change while the program runs; the default is none.
    """

    def __init__(self, allowed: Iterable[str] = (), own: Callable[[], Iterable[str]] = frozenset) -> None:
        self._schemes: dict[str, str] = dict.fromkeys(LOOPBACK, "http")
        self._own = own
        for name in allowed:
            self.add(name)

    def add(self, name: str) -> None:
        """Serve under another name too: NAME, http://NAME or https://NAME; a port is ignored. Raises ValueError."""
        scheme, separator, rest = name.strip().lower().rpartition("://")
        match = _HOST.fullmatch(rest.rstrip("/"))
        if match is None or (separator and scheme not in _DEFAULT_PORTS):
            raise ValueError(f"{name!r} is no host name")
        self._schemes[match["name"]] = scheme or "http"

    def origin(self, host: str) -> str | None:
        """The page's own origin for a Host header, as a browser writes it in Origin; None for a host not served here.

        Any port is taken: a forwarded port has another number than the one listened on. Nobody gains by it, since the
        origin of another port is another origin.
        """
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return None
        name, port = match["name"], match["port"]
        scheme = self._schemes.get(name)
        if scheme is None and name in self._own():
            scheme = "http"
        if scheme is None:
            return None
        return f"{scheme}://{name}" + (f":{port}" if port and port != _DEFAULT_PORTS[scheme] else "")


def foreign(method: str, headers: Mapping[str, str], own: str) -> str | None:
    """Why a request comes from another page than the one at the origin `own`; None where nothing says so.

    headers: names in lower case. Opening the page from elsewhere, as by a link, is a top-level GET: it changes nothing
    and shows nothing to the page that had the link.
    """
    origin = headers.get("origin")
    if origin is not None and origin.lower() != own:
        return f"Origin is {origin}"
    site = headers.get("sec-fetch-site", "none")
    opened = (method, headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("GET", "navigate", "document")
    if site not in ("same-origin", "none") and not opened:
        return f"Sec-Fetch-Site is {site}"
    return None
