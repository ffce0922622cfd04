"""What `--listen` prints for a phone: an address of this machine, and a QR code that a camera reads."""

import ipaddress

import numpy as np
import pytest

from studio.service.origin import machine_names
from studio.ui.phone import network_address, qr_code

HALVES = {" ": (0, 0), "\u2580": (1, 0), "\u2584": (0, 1), "\u2588": (1, 1)}  # light above, light below
PIXELS = 8


def test_the_address_is_one_of_this_machine() -> None:
    address = network_address()
    assert address == "" or (address in machine_names() and not ipaddress.ip_address(address).is_loopback)


def test_the_code_is_read_back_by_a_camera() -> None:
    pytest.importorskip("segno", reason="segno is not installed")
    cv2 = pytest.importorskip("cv2", reason="opencv is not installed")
    url = "http://192.168.100.200:7860"
    lines = qr_code(url).splitlines()
    rows = [[HALVES[letter][half] for letter in line] for line in lines if line for half in (0, 1)]
    picture = np.kron(np.array(rows, dtype=np.uint8) * 255, np.ones((PIXELS, PIXELS), dtype=np.uint8))
    found, _, _ = cv2.QRCodeDetector().detectAndDecode(picture)
    assert found == url
