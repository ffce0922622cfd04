"""Who comes in: the right password, after a wait that grows with what failed; sessions that end one by one."""

import pytest

from studio.service import login as login_room
from studio.service.login import FORWARDED, THIS_MACHINE, Login, Refused, Session, Tries, client_of


class Clock:
    """Seconds as the test says."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def login(clock):
    return Login([("ada", "lovelace"), ("李", "密码")], clock=clock)


def test_only_the_right_password_comes_in(login):
    assert isinstance(login.enter("李", "密码", THIS_MACHINE), Session)
    session = login.enter("ada", "lovelace", "192.168.1.7")
    assert isinstance(session, Session) and login.user(session.token) == "ada" and len(session.token) >= 32
    wrong = (("ada", "密码"), ("", ""), ("ada", ""), ("ada", "lovelace "), ("Ada", "lovelace"), ("ada", "\ud800"))
    for number, (user, password) in enumerate(wrong):
        assert isinstance(login.enter(user, password, f"10.0.0.{number}"), Refused), (user, password)
    assert [token for token in ("", "x", session.token[:-1], session.token.upper()) if login.user(token)] == []


def test_without_accounts_nobody_needs_a_login_and_nobody_gets_in_by_one():
    assert not Login().required and isinstance(Login().enter("", "", THIS_MACHINE), Refused)


def test_every_failed_try_doubles_the_wait(login, clock):
    waits = []
    for _ in range(14):
        found = login.enter("ada", "wrong", "10.0.0.1")
        assert isinstance(found, Refused) and found.looked_at
        waits.append(found.wait)
        clock.now += found.wait
    assert waits == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_a_try_before_its_time_is_not_looked_at_and_costs_nothing(login, clock):
    for _ in range(5):
        found = login.enter("ada", "wrong", "10.0.0.1")
        clock.now += found.wait
    wait = login.enter("ada", "wrong", "10.0.0.1").wait
    for _ in range(50):
        found = login.enter("ada", "lovelace", "10.0.0.1")
        assert found == Refused(wait, looked_at=False)
    clock.now += wait
    assert isinstance(login.enter("ada", "lovelace", "10.0.0.1"), Session)
    assert login.enter("ada", "wrong", "10.0.0.1") == Refused(0.0, looked_at=True), "who came in begins anew"


def test_a_crowd_behind_the_tunnel_cannot_lock_out_this_machine(login, clock):
    for number in range(200):
        login.enter("ada", f"guess {number}", client_of("127.0.0.1", forwarded=True))
    assert isinstance(login.enter("ada", "lovelace", client_of("127.0.0.1", forwarded=False)), Session)
    assert isinstance(login.enter("ada", "lovelace", client_of("127.0.0.1", forwarded=True)), Refused)
    clock.now += login_room.LONGEST_WAIT
    assert isinstance(login.enter("ada", "lovelace", FORWARDED), Session)
    found = login.enter("ada", "wrong", FORWARDED)
    assert found.wait == 2, "one guest's success says nothing of the others"


def test_whose_tries_count_together():
    clients = {
        ("127.0.0.1", False): THIS_MACHINE, ("::1", False): THIS_MACHINE, ("127.8.8.8", False): THIS_MACHINE,
        ("::ffff:127.0.0.1", False): THIS_MACHINE, ("127.0.0.1", True): FORWARDED, ("10.0.0.9", True): FORWARDED,
        ("10.0.0.9", False): "10.0.0.9", ("::ffff:10.0.0.9", False): "10.0.0.9",
        ("fd00:1:2:3:4:5:6:7", False): "fd00:1:2:3::/64", ("fd00:1:2:3:ffff::1%eth0", False): "fd00:1:2:3::/64",
        ("testclient", False): "testclient", ("", False): "",
    }  # fmt: skip
    assert {key: client_of(*key) for key in clients} == clients


def test_failed_tries_are_forgotten_after_a_while_and_never_fill_the_memory(clock):
    tries = Tries(clock)
    for _ in range(20):
        tries.fail("a")
    clock.now += login_room.FORGET_SECONDS + 1
    tries.fail("a")
    assert tries.wait("a") == 0.0
    for number in range(3 * login_room.MAX_CLIENTS):
        tries.fail(str(number))
    assert len(tries._failed) == login_room.MAX_CLIENTS


def test_log_out_ends_ones_own_session_alone(login):
    first, second = (login.enter("ada", "lovelace", THIS_MACHINE) for _ in range(2))
    login.leave(first.token)
    login.leave("unknown")
    assert login.user(first.token) is None and login.user(second.token) == "ada"


def test_a_session_ends_when_it_is_not_used_and_the_oldest_go_first(login, clock, monkeypatch):
    used, unused = (login.enter("ada", "lovelace", THIS_MACHINE).token for _ in range(2))
    for _ in range(3):
        clock.now += login_room.IDLE_SECONDS * 0.6
        assert login.user(used) == "ada"
    assert login.user(unused) is None
    monkeypatch.setattr(login_room, "MAX_SESSIONS", 5)
    tokens = [login.enter("ada", "lovelace", THIS_MACHINE).token for _ in range(5)]
    assert [login.user(token) for token in (used, *tokens)] == [None, *["ada"] * 5]
