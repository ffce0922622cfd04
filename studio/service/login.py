"""Who may come in: accounts, sessions behind one cookie, and tries that take longer the more of them failed."""

import hmac
import ipaddress
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

FREE_TRIES = 3  # that cost no waiting
LONGEST_WAIT = 300.0  # seconds
FORGET_SECONDS = 3600.0  # after the last failed try
IDLE_SECONDS = 14 * 24 * 3600.0  # a session ends that long after its last use
MAX_SESSIONS = MAX_CLIENTS = 1000
THIS_MACHINE, FORWARDED = "this machine", "forwarded"  # clients of tries; any other is an address

Clock = Callable[[], float]


@dataclass(frozen=True)
class Session:
    """Somebody who came in: `token` is what the cookie holds."""

    token: str
    user: str


@dataclass(frozen=True)
class Refused:
    """A try that failed. wait: seconds until the next one is looked at; looked_at: whether this one was."""

    wait: float
    looked_at: bool


def client_of(address: str, forwarded: bool) -> str:
    """Whose tries count together. Everybody behind a tunnel or proxy counts as one, and never as this machine.

    forwarded: the request came through a tunnel or proxy. An IPv6 user has a whole /64 network.
    """
    if forwarded:
        return FORWARDED
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = getattr(found, "ipv4_mapped", None) or found
    if mapped.is_loopback:
        return THIS_MACHINE
    return str(mapped) if mapped.version == 4 else str(ipaddress.ip_network((mapped, 64), strict=False))


class Tries:
    """Failed logins per client: after FREE_TRIES each doubles the wait before the next is looked at."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # client -> how many, when the last

    def wait(self, client: str) -> float:
        """Seconds until a try of this client is looked at; 0.0: now."""
        count, last = self._failed.get(client, (0, 0.0))
        over = count - FREE_TRIES
        pause = min(2.0**over, LONGEST_WAIT) if over >= 0 else 0.0
        return max(last + pause - self._clock(), 0.0)

    def fail(self, client: str) -> None:
        """Count a failed try."""
        count, last = self._failed.pop(client, (0, 0.0))
        if self._clock() - last > FORGET_SECONDS:
            count = 0
        self._failed[client] = (min(count + 1, 100), self._clock())
        while len(self._failed) > MAX_CLIENTS:
            self._failed.popitem(last=False)

    def clear(self, client: str) -> None:
        """Forget them: the client came in. Those behind a tunnel are many, so that one's success says nothing."""
        if client != FORWARDED:
            self._failed.pop(client, None)


class Login:
    """Accounts and sessions. Without accounts nobody needs a login. Safe from any thread."""

    def __init__(self, accounts: Iterable[tuple[str, str]] = (), *, clock: Clock = time.monotonic) -> None:
        self._pepper = secrets.token_bytes(32)
        self._passwords = {user: self._digest(password) for user, password in accounts}
        self._clock, self._tries, self._lock = clock, Tries(clock), threading.Lock()
        self._sessions: OrderedDict[str, tuple[str, float]] = OrderedDict()  # token -> user, last use

    @property
    def required(self) -> bool:
        return bool(self._passwords)

    @property
    def several(self) -> bool:
        """Whether an account may be one person's: there are at least two."""
        return len(self._passwords) > 1

    def enter(self, user: str, password: str, client: str) -> Session | Refused:
        """A new session for the right password. A try before its time is not looked at, and does not count."""
        with self._lock:
            if wait := self._tries.wait(client):
                return Refused(wait, looked_at=False)
            if not hmac.compare_digest(self._digest(password), self._passwords.get(user, b"")):
                self._tries.fail(client)
                return Refused(self._tries.wait(client), looked_at=True)
            self._tries.clear(client)
            session = Session(secrets.token_urlsafe(32), user)
            self._sessions[session.token] = (user, self._clock())
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
            return session

    def _digest(self, password: str) -> bytes:
        """Of one length for all, so that comparing tells nothing of the password's."""
        return hmac.digest(self._pepper, password.encode("utf-8", "surrogatepass"), "sha256")

    def user(self, token: str) -> str | None:
        """Whose session this is; None where it is none, or was not used for too long."""
        with self._lock:
            user, used = self._sessions.pop(token, ("", 0.0))
            if not user or self._clock() - used > IDLE_SECONDS:
                return None
            self._sessions[token] = (user, self._clock())
            return user

    def leave(self, token: str) -> None:
        """End this session, and no other."""
        with self._lock:
            self._sessions.pop(token, None)
