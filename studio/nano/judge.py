"""What a clip shows, read from its pixels by classical vision: numpy and scipy, nothing learned.

It stands on the world's rule that objects are vivid, black or white and backgrounds are not, and it judges clips of one
object. Nothing about the scene is told to it; `marks` compares what it read with what was asked.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from studio.nano.render import shape_mask
from studio.nano.world import COLOURS, DIRECTIONS, Scene, WorldSettings

VIVID, BRIGHT, DARK = 0.26, 0.84, 0.18  # chroma above, least channel above, greatest channel below: an object
LEAST_AREA = 0.004  # of the frame; less is noise
MOVES = 0.10  # short sides from first to last frame, relative to the background
GROWS = 0.22  # of the logarithm of the size
SPINS = 0.7  # radians over the clip
TRUCKS, ZOOMS, ROLLS = 0.05, 0.06, 0.07  # short sides, log scale and radians over the clip
_TEMPLATE = 24
_SYMMETRY = {"square": 4, "triangle": 1, "star": 5, "diamond": 2, "cross": 4}


@dataclass(frozen=True)
class Reading:
    """What the judge saw. Names are the world's; colour and shape are "" where it found no object.

    path (t, 2): the object's middle relative to the background, in short sides, nan where unseen.
    motion_score: as studio.nano.render.motion_score, from the measured motions.
    roughness: mean second difference of the frames in 0..1; a smooth clip has little.
    """

    colour: str
    shape: str
    motion: str
    camera: str
    motion_score: float
    roughness: float
    path: np.ndarray


def read_clip(frames: np.ndarray, world: WorldSettings) -> Reading:
    """Read uint8 frames (t, H, W, 3). The world says which colours, shapes and motions there are to choose from."""
    pixels = frames.astype(np.float32) / 255
    masks = [_object_mask(frame) for frame in pixels]
    cameras = _camera_path(pixels, masks)
    side = min(pixels.shape[1:3])
    roughness = float(np.abs(np.diff(pixels, 2, axis=0)).mean()) if len(pixels) > 2 else 0.0
    seen = [t for t, mask in enumerate(masks) if mask.any()]
    path, sizes = _object_path(masks, cameras)
    shape, turned = _shape([masks[t] for t in seen], cameras[seen, 3], world) if seen else ("", 0.0)
    on_screen = np.ptp(_object_path(masks, 0 * cameras)[0][seen], axis=0).max() if seen else np.inf
    return Reading(
        colour=_colour(pixels, masks, world) if seen else "",
        shape=shape,
        motion=_motion(path, sizes, turned, world) if seen else "",
        camera=_camera(cameras[-1] - cameras[0], float(on_screen), world),
        motion_score=_score(masks, cameras, side),
        roughness=roughness,
        path=path,
    )


def marks(scene: Scene, reading: Reading) -> dict[str, bool]:
    """Right or wrong per attribute; an attribute that the scene's pixels cannot show is left out."""
    thing = scene.things[0]
    found = {"colour": reading.colour == thing.colour, "shape": reading.shape == thing.shape}
    if camera_visible(scene):
        found["camera"] = reading.camera == scene.camera_class
    if scene.camera in ("", "fixed") or (camera_visible(scene) and scene.camera != "orbit"):
        name = "direction" if thing.motion in DIRECTIONS else "motion"
        found[name] = reading.motion == thing.motion
    return found


def camera_visible(scene: Scene) -> bool:
    """Whether the camera does enough, before a background that has the marks to see it by, along both axes."""
    return scene.amount >= 0.15 and (scene.near in ("hills", "checker") or scene.far in ("sky", "grid"))


def wilson(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share: (low, high); (0, 1) for no trials."""
    if total == 0:
        return 0.0, 1.0
    share, square = right / total, z * z / total
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * (share * (1 - share) / total + square / (4 * total)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def psnr(got: np.ndarray, wanted: np.ndarray) -> float:
    """Peak signal to noise of two uint8 pictures or clips, in dB; 99 where they are equal."""
    error = float(np.square(got.astype(np.float64) - wanted.astype(np.float64)).mean())
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def _object_mask(frame: np.ndarray) -> np.ndarray:
    """The largest connected area of object colours."""
    low, high = frame.min(-1), frame.max(-1)
    labels, count = ndimage.label((high - low > VIVID) | (low > BRIGHT) | (high < DARK))
    if count == 0:
        return np.zeros(frame.shape[:2], bool)
    areas = np.bincount(labels.ravel())[1:]
    best = int(areas.argmax())
    return labels == best + 1 if areas[best] >= LEAST_AREA * labels.size else np.zeros(frame.shape[:2], bool)


def _lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 (..., 3) -> CIE Lab, D65."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ matrix.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _colour(pixels: np.ndarray, masks: list[np.ndarray], world: WorldSettings) -> str:
    """The nearest colour to the lighter half of the object's inner pixels (patterns darken the other half)."""
    inner = [ndimage.binary_erosion(mask) if mask.sum() > 60 else mask for mask in masks]
    inside = np.concatenate([frame[mask] for frame, mask in zip(pixels, inner, strict=True)])
    if not len(inside):
        inside = np.concatenate([frame[mask] for frame, mask in zip(pixels, masks, strict=True)])
    light = inside.sum(-1)
    colour = inside[light >= np.median(light)].mean(0)
    distances = {name: np.linalg.norm(_lab(colour) - _lab(np.array(COLOURS[name]))) for name in world.colours}
    return min(distances, key=lambda name: distances[name])


def _shape(masks: list[np.ndarray], rolls: np.ndarray, world: WorldSettings) -> tuple[str, float]:
    """The shape whose picture overlaps best, box to box, over the frames where the object is whole; how far it turned.

    Only where the world has spinning things are turned pictures tried; `rolls` is the camera's part of the turning.
    """
    whole = [t for t, m in enumerate(masks) if not (m[0].any() or m[-1].any() or m[:, 0].any() or m[:, -1].any())]
    used = (whole or list(range(len(masks))))[::2]
    angles = np.arange(0, 2 * np.pi, np.pi / 18) if "spin" in world.motions else np.zeros(1)
    boxes = [_boxed(masks[t]) for t in used]
    scores = {name: np.array([[_overlap(*box, *_template(name, float(a))) for a in angles] for box in boxes])
              for name in world.shapes}  # fmt: skip
    best = max(scores, key=lambda name: scores[name].max(1).mean())
    if len(angles) == 1 or best in ("circle", "ring"):
        return best, 0.0
    fold = _SYMMETRY[best]  # an angle is known up to the shape's own symmetry
    found = np.unwrap(angles[scores[best].argmax(1)] * fold) / fold - np.unwrap(rolls[used])
    return best, float(np.ptp(found))


def _boxed(mask: np.ndarray) -> tuple[np.ndarray, float]:
    """A mask's bounding box resampled to a fixed square, and its width over its height."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    at = [np.linspace(-0.5 + n / 2 / _TEMPLATE, n - 0.5 - n / 2 / _TEMPLATE, _TEMPLATE) for n in box.shape]
    square = ndimage.map_coordinates(box, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
    return square, box.shape[1] / box.shape[0]


_templates: dict[tuple[str, float], tuple[np.ndarray, float]] = {}


def _template(name: str, angle: float) -> tuple[np.ndarray, float]:
    if (name, angle) not in _templates:
        _templates[name, angle] = _boxed(shape_mask(name, angle, 96))
    return _templates[name, angle]


def _overlap(box: np.ndarray, aspect: float, template: np.ndarray, wanted: float) -> float:
    shared, either = np.minimum(box, template).sum(), np.maximum(box, template).sum()
    return float(shared / either) - 0.5 * abs(np.log(aspect / wanted))


def _object_path(masks: list[np.ndarray], cameras: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The object's middle (t, 2) and log size (t,) with the camera's share taken out; nan where unseen."""
    path, sizes = np.full((len(masks), 2), np.nan), np.full(len(masks), np.nan)
    height, width = masks[0].shape
    side = min(height, width)
    for t, mask in enumerate(masks):
        if mask.any():
            y, x = np.nonzero(mask)
            point = np.array([x.mean() + 0.5 - width / 2, y.mean() + 0.5 - height / 2]) / side
            tx, ty, zoom, roll = cameras[t]
            c, s = np.cos(roll), np.sin(roll)
            dx, dy = point - (tx, ty)
            path[t] = np.array([c * dx + s * dy, -s * dx + c * dy]) / np.exp(zoom)
            sizes[t] = 0.5 * np.log(mask.sum()) - zoom
    return path, sizes


def _motion(path: np.ndarray, sizes: np.ndarray, turned: float, world: WorldSettings) -> str:
    """The world's motion that fits the path, the sizes and the turning best."""
    seen = np.flatnonzero(~np.isnan(sizes))
    if len(seen) < 2:
        return "still"
    few = max(1, len(seen) // 5)
    first, last = seen[:few], seen[-few:]
    moved = path[last].mean(0) - path[first].mean(0)
    grown = sizes[last].mean() - sizes[first].mean()
    spread = np.ptp(path[seen], axis=0)
    if np.abs(moved).max() > max(MOVES, 0.5 * spread.max()):
        axis = int(np.abs(moved).argmax())
        return (("left", "right"), ("up", "down"))[axis][int(moved[axis] > 0)]
    choices = {
        "grow": grown / GROWS,
        "shrink": -grown / GROWS,
        "circle": spread.min() / MOVES,
        "bounce": spread[1] / MOVES if spread[0] < MOVES else 0.0,
        "spin": turned / SPINS,
    }
    possible = {name: value for name, value in choices.items() if name in world.motions and value > 1}
    return max(possible, key=lambda name: possible[name], default="still")


def _camera_path(pixels: np.ndarray, masks: list[np.ndarray]) -> np.ndarray:
    """(t, 4): how the background has moved since frame 0: x, y in short sides, log scale, roll."""
    grey = ndimage.gaussian_filter(pixels.mean(-1), (0, 1.0, 1.0))
    # The blur carries an object's edge outwards, and beside a plain wall even a trace of it would pass for a camera.
    grown = [ndimage.binary_dilation(mask, iterations=6) for mask in masks]
    path = np.zeros((len(pixels), 4))
    for t in range(1, len(pixels)):
        path[t] = path[t - 1] + _register(grey[t - 1], grey[t], ~(grown[t - 1] | grown[t]))
    return path


def _register(before: np.ndarray, after: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Least squares of brightness constancy over the background for a similarity: (x, y, log scale, roll)."""
    height, width = before.shape
    side = min(height, width)
    y, x = np.mgrid[:height, :width]
    x, y = (x + 0.5 - width / 2) / side, (y + 0.5 - height / 2) / side
    found = np.zeros(4)
    inner = free.copy()
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    if inner.sum() < 50:
        return found
    for _ in range(4):
        tx, ty, zoom, roll = found
        c, s = np.exp(zoom) * np.cos(roll), np.exp(zoom) * np.sin(roll)
        where = np.stack([s * x + c * y + ty, c * x - s * y + tx])
        rows, columns = where[0] * side + height / 2 - 0.5, where[1] * side + width / 2 - 0.5
        moved = ndimage.map_coordinates(after, [rows, columns], order=1, mode="nearest")
        gy, gx = np.gradient(moved)
        gx, gy = gx * side, gy * side
        design = np.stack([gx, gy, gx * x + gy * y, gy * x - gx * y], -1)[inner]
        error = (before - moved)[inner]
        weight = 1 / (1 + (error / 0.05) ** 2)  # what the camera does not explain counts less
        normal = (design * weight[:, None]).T @ design + 0.02 * inner.sum() * np.diag([0.02, 0.02, 0.005, 0.005])
        step = np.linalg.solve(normal, (design * weight[:, None]).T @ error)
        found = found + step
    return found


def _camera(moved: np.ndarray, on_screen: float, world: WorldSettings) -> str:
    """The camera move that a background's motion (x, y, log scale, roll) over the clip is the mirror of.

    A camera that travels while the object stays where it is on the screen follows it.
    """
    x, y, zoom, roll = moved
    strengths = {
        "right" if x < 0 else "left": abs(x) / TRUCKS,
        "down" if y < 0 else "up": abs(y) / TRUCKS,
        "zoom-in" if zoom > 0 else "zoom-out": abs(zoom) / ZOOMS,
        "rotate": abs(roll) / ROLLS,
    }
    possible = {name: value for name, value in strengths.items() if name in world.cameras and value > 1}
    best = max(possible, key=lambda name: possible[name], default="fixed")
    pinned = best in DIRECTIONS and on_screen < 0.3 * max(abs(x), abs(y))
    return "follow" if pinned and "follow" in world.cameras else best


def _score(masks: list[np.ndarray], cameras: np.ndarray, side: int) -> float:
    """motion_score of the measured motions: the camera's field over all pixels, the object's own over the object."""
    if len(masks) < 2:
        return 2.0
    height, width = masks[0].shape
    y, x = (np.mgrid[:height, :width].reshape(2, -1).T + 0.5 - (height / 2, width / 2)).T / side
    still = np.zeros((len(masks), 4))
    path, sizes = _object_path(masks, still)
    total = 0.0
    for t in range(len(masks) - 1):
        tx, ty, zoom, roll = cameras[t + 1] - cameras[t]
        field = np.hypot(tx + zoom * x - roll * y, ty + zoom * y + roll * x)
        mask = masks[t].ravel()
        if mask.any() and not np.isnan(sizes[t + 1]):
            dx, dy = path[t + 1] - path[t]
            grown = sizes[t + 1] - sizes[t]
            field[mask] = np.hypot(dx + grown * (x[mask] - path[t, 0]), dy + grown * (y[mask] - path[t, 1]))
        total += float(field.mean())
    return min(30.0, 2 + 1000 * total / (len(masks) - 1))
