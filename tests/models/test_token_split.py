"""How devices divide the tokens of a video, and how many of them can."""

import pytest

from models.token_split import TokenSplit, usable_counts


def test_every_token_has_one_device_and_borders_keep_the_chunks_where_they_can() -> None:
    for tokens in (1, 47, 48, 6324, 18972, 37944, 75888):
        for devices in range(1, min(tokens, 9)):
            split = TokenSplit.of(tokens, devices, 4096)
            parts = [split.part(device) for device in range(devices)]
            assert parts[0].start == 0 and parts[-1].stop == tokens and min(split.counts) > 0
            assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
            assert split.aligned == (-(-tokens // 4096) >= devices)
            if split.aligned:
                chunks = -(-tokens // 4096)
                assert not any(part.start % 4096 for part in parts)
                assert max(split.counts) <= -(-chunks // devices) * 4096
            else:
                assert max(split.counts) - min(split.counts) <= 1
    assert TokenSplit.of(37944, 4, 4096).counts == (12288, 12288, 8192, 5176)
    with pytest.raises(ValueError, match="3 tokens cannot be divided among 4"):
        TokenSplit.of(3, 4, 16)


def test_the_numbers_of_devices_that_a_network_can_use() -> None:
    assert usable_counts(48, 64) == [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48]
    assert usable_counts(12, 16) == [1, 2, 3, 4, 6, 8, 12] and usable_counts(2, 8) == [1, 2, 4]
