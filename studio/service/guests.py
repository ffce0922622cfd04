"""Who a guest is: whose account, or which browser. The queue holds a name made of either, never the secret itself."""

import hashlib
import re
import secrets

KEPT_SECONDS = 365 * 24 * 3600  # a browser's cookie
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)  # as new_token makes them


def new_token() -> str:
    """For the cookie of a browser that has none."""
    return secrets.token_urlsafe(32)


def maker_of(account: str, token: str) -> str:
    """How the queue names what a guest makes. account: his own, "" where many share one; token: his browser's.

    "" where there is neither: what he makes is then this machine's.
    """
    if account:
        return _name(f"account {account}")
    return _name(f"browser {token}") if _TOKEN.fullmatch(token) else ""


def guest_cookie_name(origin: str) -> str:
    """Of the cookie that a browser is known by. Browsers share cookies between ports of a host."""
    return "__Host-guest" if origin.startswith("https:") else f"guest-{origin.rpartition(':')[2].strip('/')}"


def guest_cookie(origin: str, token: str) -> str:
    """The Set-Cookie header."""
    secure = "; Secure" if origin.startswith("https:") else ""
    kept = f"Max-Age={KEPT_SECONDS}; Path=/; HttpOnly; SameSite=Lax"
    return f"{guest_cookie_name(origin)}={token}; {kept}{secure}"


def _name(words: str) -> str:
    return hashlib.blake2s(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
