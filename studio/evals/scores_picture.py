"""How frames look: fidelity to the first image, drift from it, sharpness and its decay."""

import cv2
import numpy as np

from studio.evals.pairs import grey_of, ssim, working_frames

PART = 5  # the first and the last fifth of a clip stand for its begin and its end
BINS = 8  # of a colour histogram, per channel
EQUAL_DB = 99.0  # of pictures that are equal


def psnr(one: np.ndarray, two: np.ndarray) -> float:
    """Peak signal to noise of two uint8 pictures, in dB; EQUAL_DB where they are equal."""
    error = float(np.square(one.astype(np.float64) - two.astype(np.float64)).mean())
    return EQUAL_DB if error == 0 else min(EQUAL_DB, float(10 * np.log10(255**2 / error)))


def picture_ssim(one: np.ndarray, two: np.ndarray) -> float:
    """SSIM of two uint8 RGB pictures by their brightness, -1..1 (Wang and others, IEEE TIP 2004)."""
    return float(ssim(grey_of(one), grey_of(two)).mean())


def first_frame(frames: np.ndarray, picture: np.ndarray) -> tuple[float, float]:
    """PSNR (dB) and SSIM of frame 0 against the picture as the model got it, uint8 (H, W, 3) of the clip's size."""
    return psnr(frames[0], picture), picture_ssim(frames[0], picture)


def drift_colour(frames: np.ndarray) -> float:
    """How far the colours of the last fifth are from the first frame's: Hellinger distance of their histograms, 0..1.

    Histograms of 8 x 8 x 8 bins with linear sharing between neighbouring bins, so that no colour stands on an edge.
    """
    chosen = [frames[0], *_part(frames, last=True)]
    first, *last = [_histogram(frame) for frame in working_frames(np.stack(chosen))]
    return float(np.mean([np.sqrt(max(0.0, 1 - float(np.sqrt(first * other).sum()))) for other in last]))


def drift_structure(frames: np.ndarray) -> float:
    """1 - SSIM of the last fifth to the first frame, 0..2; motion counts too."""
    chosen = [frames[0], *_part(frames, last=True)]
    first, *last = [grey_of(frame) for frame in working_frames(np.stack(chosen))]
    return float(np.mean([1 - ssim(first, other).mean() for other in last]))


def sharpness(frames: np.ndarray) -> float:
    """How much detail there is that blurring would take away, 0..1; mean over up to 16 frames.

    1 - the blur effect of Crete and others (SPIE 2007): the share of neighbouring differences that a 9-tap box blur
    takes away, the worse of both directions. It depends little on what is shown.
    """
    chosen = frames[np.linspace(0, len(frames) - 1, min(len(frames), 16)).round().astype(int)]
    return float(np.mean([_detail(grey_of(frame)) for frame in chosen]))


def sharpness_kept(frames: np.ndarray) -> float | None:
    """Mean squared gradient (Tenengrad, Sobel 3x3) of the last fifth over that of the first: 1 is none lost.

    None for a clip that shows nothing at its begin.
    """
    first = float(np.mean([_tenengrad(frame) for frame in _part(frames, last=False)]))
    last = float(np.mean([_tenengrad(frame) for frame in _part(frames, last=True)]))
    return last / first if first > 1e-3 else None


def _part(frames: np.ndarray, last: bool) -> np.ndarray:
    count = max(len(frames) // PART, 1)
    return frames[-count:] if last else frames[:count]


def _tenengrad(frame: np.ndarray) -> float:
    grey = grey_of(frame).astype(np.float32)
    return float((np.square(cv2.Sobel(grey, -1, 1, 0)) + np.square(cv2.Sobel(grey, -1, 0, 1))).mean())


def _detail(grey: np.ndarray) -> float:
    """1 - blur effect of one uint8 (h, w) picture."""
    picture, kept = grey.astype(np.float32), []
    for axis in (0, 1):
        size = (1, 9) if axis == 0 else (9, 1)
        blurred = cv2.blur(picture, size, borderType=cv2.BORDER_REFLECT)
        sharp, soft = np.abs(np.diff(picture, axis=axis)), np.abs(np.diff(blurred, axis=axis))
        lost = np.maximum(0, sharp - soft).sum()
        kept.append(float(lost / sharp.sum()) if sharp.sum() > 0 else 0.0)
    return min(kept)


def _histogram(frame: np.ndarray) -> np.ndarray:
    """(BINS ** 3,) float, sums to 1."""
    place = frame.reshape(-1, 3).astype(np.float32) * (BINS - 1) / 255
    low = np.minimum(place.astype(np.int32), BINS - 2)
    part = place - low
    total = np.zeros(BINS**3)
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod(np.where(np.array(corner) == 1, part, 1 - part), axis=1)
        at = (low + corner) @ np.array([BINS * BINS, BINS, 1])
        total += np.bincount(at, weight, BINS**3)
    return total / total.sum()
