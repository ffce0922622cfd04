"""Estimates: from the speeds of the disk where the weights are."""

from studio.memory import speeds
from studio.memory.speeds import DiskSpeed


def test_an_engine_plans_with_the_disk_of_its_weights(open_tiny, model_dir, monkeypatch):
    monkeypatch.setattr(speeds, "PART_SECONDS", 0.01)

    def read(cache, weights):
        return DiskSpeed(6.5 if model_dir in weights.parents else 1.0, speeds.DISK_BYTES)

    monkeypatch.setattr(speeds, "_disk_speed", read)
    assert open_tiny("step-video-t2v").memory.speeds.disk_gbps == 6.5
