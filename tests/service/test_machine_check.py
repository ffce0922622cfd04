"""`check` as the page runs it: its lines as they come, its end, and when it is offered."""

import json
import sys
import time

import pytest

from studio.errors import StudioError
from studio.service.machine_check import MachineCheck

# A finding, a word for a terminal, then nothing more until stdin ends.
COMMAND = """
import json, sys
print(json.dumps({"state": "ok", "name": "GPU", "en": "A card.", "zh": "显卡。"}), flush=True)
print("Waiting for cuda:0.", flush=True)
sys.stdin.read()
"""


def until(true):
    while not true():
        time.sleep(0.01)


def test_a_run_is_offered_once_shown_as_it_goes_and_ends_with_the_page(tmp_path):
    file = tmp_path / ".cache" / "check.json"
    check = MachineCheck(file, [sys.executable, "-c", COMMAND], has_gpu=True)
    assert check.look().offered and not MachineCheck(file, [], has_gpu=False).look().offered
    check.start()
    until(lambda: len(check.look().rows) == 2)
    view = check.look()
    assert view.running and not view.offered
    assert [(row.state, row.name, row.sentence["zh"]) for row in view.rows] == [
        ("ok", "GPU", "显卡。"),
        ("", "", "Waiting for cuda:0."),
    ]
    check.start()  # one at a time
    assert len(check.look().rows) == 2
    check.close()
    assert not check.look().running


def test_what_was_found_stays_and_an_offer_that_was_declined_goes(tmp_path):
    file = tmp_path / "check.json"
    check = MachineCheck(file, ["/no/such/program"], has_gpu=True)
    check.decline()
    assert not check.look().offered and not MachineCheck(file, [], has_gpu=True).look().offered
    with pytest.raises(StudioError):
        check.start()
    rows = [{"state": "look", "name": "disk", "en": "Full.", "zh": "已满。", "values": {}}]
    file.write_text(json.dumps(rows), encoding="utf-8")
    (row,) = check.look().rows
    assert (row.state, row.sentence) == ("look", {"en": "Full.", "zh": "已满。"})
    for damaged in ("{", "[1]", '[{"state": 1}]'):
        file.write_text(damaged)
        assert check.look().rows == (), damaged
