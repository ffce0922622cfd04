"""The seam between two clips, where one begins with the last frame of the other."""

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.uint8]
MOST_GAIN = 1.1  # of a channel's contrast; what differs more is no drift of colours
MOST_SHIFT = 16.0  # of a channel's mean, in steps of 255


class Seam:
    """Takes a clip's frames as they are decoded and gives them as they are to follow the clip before.

    The model makes the first image again as frame 1, a little off in colour. Each channel's mean and contrast are
    brought to those of the first image, by one table for the whole clip, so that nothing drifts from clip to clip; and
    frame 1 is left out: the clip before has shown it. Where the clip is one frame, that stays.
    """

    def __init__(self, before: Frames, frames: int) -> None:
        """before: the frame that the clip before ends with (H, W, 3); frames: how many this clip has."""
        self._before, self._alone = before, frames == 1
        self._table: Frames | None = None

    def __call__(self, frames: Frames) -> Frames:
        """The next frames (t, H, W, 3)."""
        if self._table is None:
            self._table = colour_table(frames[0], self._before)
            if not self._alone:
                frames = frames[1:]
        return np.stack([self._table[channel][frames[..., channel]] for channel in range(3)], -1)


def colour_table(frame: Frames, wanted: Frames) -> Frames:
    """(3, 256): per channel the new value of each value, by which `frame` (H, W, 3) gets the colours of `wanted`."""
    values, table = np.arange(256, dtype=np.float32), np.empty((3, 256), np.uint8)
    for channel in range(3):
        have, want = frame[..., channel].astype(np.float32), wanted[..., channel].astype(np.float32)
        contrast = float(have.std())
        gain = float(np.clip(want.std() / contrast, 1 / MOST_GAIN, MOST_GAIN)) if contrast > 1.0 else 1.0
        shift = float(np.clip(want.mean() - have.mean(), -MOST_SHIFT, MOST_SHIFT))
        moved = (values - have.mean()) * gain + have.mean() + shift
        table[channel] = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    return table
