"""`check` on the page in headless Chromium, with a command that prints planted findings."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.service.machine_check import MachineCheck
from tests.ui.fake_backend import FakeBackend
from tests.ui.serving import serving
from tests.ui.visitor import visitors

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.browser

# The first finding, and once GO is there the last one.
COMMAND = """
import json, sys, time
from pathlib import Path
def tell(state, name, en, zh):
    print(json.dumps({"state": state, "name": name, "en": en, "zh": zh}), flush=True)
tell("ok", "GPU", "A card <b>of</b> 24 GB.", "24 GB 显卡。")
while not Path(sys.argv[1]).exists():
    time.sleep(0.05)
tell("look", "disk", "The disk is nearly full.", "磁盘将满。")
"""


def test_the_first_start_with_a_gpu_offers_it_and_its_lines_come_one_by_one(browser: Any, tmp_path: Path) -> None:
    fake, go = FakeBackend(tmp_path), tmp_path / "go"
    check = MachineCheck(tmp_path / "check.json", [sys.executable, "-c", COMMAND, str(go)], has_gpu=True)
    fake.backend = replace(fake.backend, check=check)
    try:
        with serving(fake) as served, visitors(browser, 90) as open_page:
            page = open_page(served.url)
            page.click("#check-offer [data-id=start]")
            page.wait_for_selector("#row-check tr.ok:has-text('A card <b>of</b> 24 GB.')")
            page.wait_for_selector("#row-check .checking")
            assert page.locator("#check-offer button").count() == 0
            page.click("#language label:has-text('中文')")
            page.wait_for_selector("#row-check tr.ok:has-text('24 GB 显卡。')")
            go.touch()
            page.wait_for_selector("#row-check tr.look:has-text('磁盘将满。')")
            page.wait_for_selector("#row-check [data-id=start]:has-text('重新检查')")
            page.fill("#setting-search", "check")
            page.wait_for_selector("#row-check:visible")
            page.wait_for_selector("#seed", state="hidden")
    finally:
        check.close()
