"""A room in perspective, with things in it, seen by a moving camera: clips whose truth is known, to check the scores.

The thresholds of the scores were chosen on warps.py, not here. Rays are cast into a box with painted walls and spheres
before them, so near things move more than far ones, as in the world.
"""

from dataclasses import dataclass

import numpy as np

HALF = np.array([3.0, 2.0, 5.0])  # the room's half sizes: to the right, up, ahead
FOCAL = 1.1  # in short sides


@dataclass(frozen=True)
class Take:
    """What a camera does from the first frame to the last. yaw, pitch, roll in radians (right, up, clockwise), zoom:
    the focal length's factor, ahead and aside: travel in units of the room; balls: spheres that move by themselves."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    zoom: float = 1.0
    ahead: float = 0.0
    aside: float = 0.0
    balls: int = 0


def filmed(take: Take, seed: int, frames: int = 17, height: int = 144, width: int = 256) -> np.ndarray:
    """The clip, uint8 (frames, height, width, 3)."""
    rng = np.random.default_rng(seed)
    walls, balls = _walls(rng), _balls(rng, take.balls)
    shots = [_shot(take, t / max(frames - 1, 1), walls, balls, 2 * height, 2 * width) for t in range(frames)]
    small = np.stack(shots).reshape(frames, height, 2, width, 2, 3).mean((2, 4))
    return small.round().clip(0, 255).astype(np.uint8)


def flow_of_turn(take: Take, frames: int, height: int, width: int) -> float:
    """The true mean length of the flow between neighbours, in pixels, of a camera that only turns and zooms."""
    lengths = []
    for t in range(frames - 1):
        before, after = (_camera(take, (t + step) / (frames - 1)) for step in (0, 1))
        rays = _rays(before, height, width)
        seen = (rays @ after[0]) / (rays @ after[0])[..., 2:]
        there = seen[..., :2] * after[1]
        here = _grid(height, width)
        lengths.append(np.linalg.norm(there - here, axis=-1).mean() * min(height, width))
    return float(np.mean(lengths))


def _camera(take: Take, u: float) -> tuple[np.ndarray, float, np.ndarray]:
    """Rotation (columns: right, down, ahead of the camera in the room), focal length, place."""
    yaw, pitch, roll = take.yaw * u, take.pitch * u, take.roll * u
    cy, sy, cp, sp, cr, sr = *_cs(yaw), *_cs(pitch), *_cs(roll)
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return turn @ nod @ lean, FOCAL * take.zoom**u, np.array([take.aside * u, 0.0, -2.0 + take.ahead * u])


def _cs(angle: float) -> tuple[float, float]:
    return float(np.cos(angle)), float(np.sin(angle))


def _grid(height: int, width: int) -> np.ndarray:
    """Places of pixels about the middle, in short sides, (h, w, 2); y goes down."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    short = min(height, width)
    return np.stack([(columns - (width - 1) / 2) / short, (rows - (height - 1) / 2) / short], -1)


def _rays(camera: tuple[np.ndarray, float, np.ndarray], height: int, width: int) -> np.ndarray:
    plane = _grid(height, width) / camera[1]
    rays = np.concatenate([plane, np.ones((height, width, 1))], -1)
    return rays @ camera[0].T


def _shot(take: Take, u: float, walls: tuple, balls: list, height: int, width: int) -> np.ndarray:
    camera = _camera(take, u)
    rays, place = _rays(camera, height, width), camera[2]
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(rays > 0, (HALF - place) / rays, (-HALF - place) / rays)
    reach = np.where(np.isfinite(reach) & (reach > 0), reach, np.inf)
    axis, distance = reach.argmin(-1), reach.min(-1)
    hit = place + rays * distance[..., None]
    picture = _paint(hit, axis * 2 + (np.take_along_axis(rays, axis[..., None], -1)[..., 0] > 0), walls)
    for start, way, radius, colour in balls:
        picture, distance = _ball(picture, distance, rays, place, (start + way * u, radius, colour))
    return picture


def _walls(rng: np.random.Generator) -> tuple:
    """Per wall: a colour, stripes (direction, frequency, colour) and bricks of random brightness."""
    return (
        rng.uniform(60, 190, (6, 3)),
        rng.uniform(-1, 1, (6, 9, 3)) * rng.uniform(2, 9, (6, 9, 1)),
        rng.uniform(0, 6.28, (6, 9)),
        rng.uniform(-22, 22, (6, 9, 3)),
        rng.uniform(-70, 70, (6, 24, 24, 24)),
    )


def _paint(hit: np.ndarray, wall: np.ndarray, walls: tuple) -> np.ndarray:
    colours, ways, phases, tints, bricks = walls
    picture = np.zeros((*wall.shape, 3))
    for number in range(6):
        here = wall == number
        points = hit[here]
        waves = np.sin(points @ ways[number].T + phases[number]) @ tints[number]
        cells = np.floor((points + 6) * 2).astype(int) % 24
        picture[here] = colours[number] + waves + bricks[number][tuple(cells.T)][:, None]
    return picture.clip(0, 255)


def _balls(rng: np.random.Generator, count: int) -> list:
    made = []
    for _ in range(count):
        start = np.array([rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4), rng.uniform(0.6, 1.6)])
        made.append((start, rng.uniform(-0.5, 0.5, 3), rng.uniform(0.2, 0.35), rng.uniform(0, 255, 3)))
    return made


def _ball(picture: np.ndarray, distance: np.ndarray, rays: np.ndarray, place: np.ndarray, ball: tuple) -> tuple:
    """The picture with a shaded sphere before what is farther."""
    centre, radius, colour = ball
    offset, square = centre - place, (rays**2).sum(-1)
    along = rays @ offset
    inside = along**2 - square * (offset @ offset - radius**2)
    near = np.where(inside > 0, (along - np.sqrt(np.maximum(inside, 0))) / square, np.inf)
    seen = (near > 0) & (near < distance)
    normal = (place + rays[seen] * near[seen][:, None] - centre) / radius
    shaded = picture.copy()
    shaded[seen] = (0.55 + 0.45 * np.clip(normal @ np.array([0.5, -0.7, -0.5]), 0, 1))[:, None] * colour
    return shaded, np.where(seen, near, distance)
