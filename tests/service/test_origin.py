"""Whose request it is: the names a page is served under, and what Origin and Sec-Fetch-Site say."""

import itertools
import socket

import pytest

from studio.service.origin import ServedHosts, foreign, machine_names

OWN = "http://127.0.0.1:7860"


def test_a_host_is_served_only_under_its_names():
    hosts = ServedHosts(["studio.lan", "https://Studio.Example:8443/"], lambda: {"192.168.1.5", "[fd00::5]"})
    found = {
        "127.0.0.1:7860": OWN,
        "localhost:9000": "http://localhost:9000",  # a forwarded port
        "LOCALHOST": "http://localhost",
        "[::1]:7860": "http://[::1]:7860",
        "localhost:80": "http://localhost",  # as a browser writes it
        "studio.lan:7860": "http://studio.lan:7860",
        "studio.example": "https://studio.example",
        "studio.example:443": "https://studio.example",
        "192.168.1.5:7860": "http://192.168.1.5:7860",
        "[fd00::5]:7860": "http://[fd00::5]:7860",
    }
    assert {host: hosts.origin(host) for host in found} == found
    foreign_names = (
        "rebind.example", "127.0.0.1.rebind.example", "localhost.", "localhost.rebind.example:7860", "0.0.0.0:7860", "",
        "127.0.0.2", "127.1", "2130706433", "0x7f.1", "[::]", "::1", "[::ffff:127.0.0.1]", "user@127.0.0.1", "a/b",
        "127.0.0.1:7860, rebind.example", "127.0.0.1:", "127.0.0.1:123456", "127.0.0.1 ", "xn--localhost",
        "localhost\x00",
    )  # fmt: skip
    assert [host for host in foreign_names if hosts.origin(host)] == []


def test_a_name_may_come_later_and_a_bad_one_is_told():
    hosts = ServedHosts()
    assert hosts.origin("abc.gradio.live") is None
    hosts.add("https://abc.gradio.live")
    assert hosts.origin("abc.gradio.live") == "https://abc.gradio.live"
    for name in ("", "*", "*.gradio.live", "ftp://a", "a b", "https://", "http://a/b", "a,b"):
        with pytest.raises(ValueError, match="no host name"):
            hosts.add(name)


def test_the_machines_own_names_are_addresses_and_its_hostname():
    names = machine_names()
    assert {"127.0.0.1", socket.gethostname().lower()} <= names
    hosts = ServedHosts(own=lambda: names)
    assert [name for name in names if hosts.origin(name) is None] == []


def rule(**headers):
    method = headers.pop("method", "POST")
    return foreign(method, {name.replace("_", "-"): value for name, value in headers.items()}, OWN) is None


def test_only_the_page_itself_may_ask():
    """Every kind of Origin with every kind of Sec-Fetch-Site: either of them is enough to refuse."""
    origins = {
        None: True, OWN: True, "https://127.0.0.1:7860": False, "http://127.0.0.1": False, OWN + "/": False,
        "http://127.0.0.1:8000": False, "http://localhost:7860": False, "http://evil.example": False, "null": False,
        "": False,
    }  # fmt: skip
    sites = {
        None: True,
        "same-origin": True,
        "none": True,
        "same-site": False,
        "cross-site": False,
        "x": False,
        "": False,
    }
    wrong = []
    for (origin, own), (site, near) in itertools.product(origins.items(), sites.items()):
        given = {"origin": origin, "sec_fetch_site": site}
        given = {name: value for name, value in given.items() if value is not None}
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            wrong += [] if rule(method=method, **given) == (own and near) else [(method, origin, site)]
    assert wrong == []


def test_a_link_from_elsewhere_opens_the_page_and_does_nothing_else():
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert rule(method="GET", **link)
    assert not rule(method="POST", **link), "a form of another page"
    assert not rule(method="GET", origin="http://evil.example", **link)
    for other in ({"sec_fetch_dest": "iframe"}, {"sec_fetch_dest": "image"}, {"sec_fetch_mode": "no-cors"}):
        assert not rule(method="GET", **link | other)
