"""Scenes -> pixels, in batches, on any device, with the truth about every pixel.

A picture is a stack of layers (far background, near background, objects). A layer is an affine map per frame from
the screen to its own coordinates plus a way to paint them, so flow is exact: `inverse(map[t + 1]) @ map[t]`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from studio.nano.world import COLOURS, DIRECTIONS, TONES, Scene, Thing

# Translation and zoom as a layer feels them: (far, near, objects). 1 everywhere = no parallax.
_FLAT = (1.0, 1.0, 1.0)
_PARALLAX = {name: (0.35, 1.0, 1.0) for name in ("left", "right", "up", "down", "push-in", "pull-out", "follow")}
_PARALLAX["orbit"] = (1.3, 0.5, 0.0)  # the objects stay, the world turns behind them
_TRUCKS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "pan-left": (-1, 0), "pan-right": (1, 0),
           "tilt-up": (0, -1), "tilt-down": (0, 1), "orbit": (1, 0)}  # fmt: skip
_ZOOMS = {"zoom-in": 1.0, "push-in": 1.0, "zoom-out": -1.0, "pull-out": -1.0}


Window = tuple[int, int, int, int]  # top, left, height, width in pixels


@dataclass(frozen=True)
class Clips:
    """A rendered batch. Flow is in pixels to the next frame; masks say which object is seen where."""

    video: Tensor  # (b, t, 3, H, W) float32 in -1..1
    masks: Tensor  # (b, objects, t, H, W) bool; all False where a scene has fewer objects
    flow: Tensor  # (b, t - 1, 2, H, W) float32, x then y
    motion_score: Tensor  # (b,) float32


def render(
    scenes: Sequence[Scene],
    frames: int,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
    window: Window | None = None,
) -> Clips:
    """Render scenes to clips; bit-identical for the same scene, size and device, whatever else is in the batch.

    window: only this part of the picture is made, with the pixels it has in the whole.
    """
    maps = layer_maps(scenes, frames).to(device)  # (b, layers, t, 3, 3)
    grid = _screen(height, width, device)
    if window:
        top, left, tall, wide = window
        grid = grid[top : top + tall, left : left + wide].contiguous()
    pixel = 1.0 / min(height, width)
    shape = (len(scenes), frames, *grid.shape[:2])
    far = torch.einsum("btij,hwj->bthwi", maps[:, 0, :, :2], grid)
    image = _by_kind([s.far for s in scenes], far, [s.far_tone for s in scenes], scenes, pixel, _FAR_PAINT)
    near = torch.einsum("btij,hwj->bthwi", maps[:, 1, :, :2], grid)
    alpha = torch.stack([_near_alpha(s, near[i], pixel) for i, s in enumerate(scenes)])
    ground = _by_kind([s.near for s in scenes], near, [s.near_tone for s in scenes], scenes, pixel, _NEAR_PAINT)
    image = image + (ground - image) * alpha[..., None]
    owner = (alpha > 0.5).long()
    for slot in range(maps.shape[1] - 2):
        local = torch.einsum("btij,hwj->bthwi", maps[:, slot + 2, :, :2], grid)
        scale = torch.linalg.det(maps[:, slot + 2, :, :2, :2]).abs().sqrt()[..., None, None] * pixel
        for row, scene in enumerate(scenes):
            if slot < len(scene.things):
                thing = scene.things[slot]
                cover = (0.5 - _SHAPE_SDF[thing.shape](local[row]) / scale[row]).clamp(0, 1)
                paint = _thing_paint(thing, local[row])
                image[row] += (paint - image[row]) * cover[..., None]
                owner[row] = torch.where(cover > 0.5, slot + 2, owner[row])
    masks = torch.stack([owner == slot + 2 for slot in range(maps.shape[1] - 2)], 1)
    flow = (
        _flow(maps, owner, grid, min(height, width)) if frames > 1 else image.new_zeros(len(scenes), 0, 2, *shape[2:])
    )
    video = image.permute(0, 1, 4, 2, 3).clamp(0, 1) * 2 - 1
    return Clips(video.contiguous(), masks, flow, motion_score(flow))


def motion_score(flow: Tensor) -> Tensor:
    """Mean flow of a clip on the scale users see: flow (b, t, 2, H, W) in pixels -> (b,), 2 steady .. about 20 wild.

    2 + 1000 times the mean length of the flow in short sides per frame, at most 30: a still clip has 2, one object
    crossing about 4 to 8, a quick camera 12 to 20.
    """
    if flow.shape[1] == 0:
        return flow.new_full((flow.shape[0],), 2.0)
    mean = flow.square().sum(2).sqrt().mean((1, 2, 3)) / min(flow.shape[-2:])
    return (2 + 1000 * mean).clamp(max=30)


def layer_maps(scenes: Sequence[Scene], frames: int) -> Tensor:
    """(b, 2 + most objects, t, 3, 3) float32: screen (x, y, 1) -> coordinates of far, near and each object."""
    layers = 2 + max(len(scene.things) for scene in scenes)
    maps = torch.eye(3).repeat(len(scenes), layers, frames, 1, 1)
    for row, scene in enumerate(scenes):
        for t in range(frames):
            u = t / (frames - 1) if frames > 1 else 0.0
            weights = _PARALLAX.get(scene.camera, _FLAT)
            far, near, floor = (_camera(scene, u, weight) for weight in weights)
            maps[row, 0, t], maps[row, 1, t] = far, near
            for slot, thing in enumerate(scene.things):
                maps[row, slot + 2, t] = torch.linalg.inv(_pose(thing, u)) @ floor
    return maps


def thing_position(thing: Thing, u: float) -> tuple[float, float]:
    """Where an object's middle is at time u, in coordinates of the near background."""
    x, y = thing.centre
    if thing.motion in DIRECTIONS:
        dx, dy = DIRECTIONS[thing.motion]
        return x + dx * thing.travel * (u - 0.5), y + dy * thing.travel * (u - 0.5)
    if thing.motion == "circle":
        turn, radius = thing.turn * 2 * math.pi * u, thing.travel * 0.4
        return x + radius * math.cos(turn), y + radius * math.sin(turn)
    if thing.motion == "bounce":
        return x, y + thing.travel * (0.3 - 0.6 * abs(math.sin(2 * math.pi * u)))
    return x, y


def _pose(thing: Thing, u: float) -> Tensor:
    x, y = thing_position(thing, u)
    growth = {"grow": 1.0, "shrink": -1.0}.get(thing.motion, 0.0)
    scale = thing.radius * math.exp(growth * 0.9 * (u - 0.5))
    angle = thing.angle + (thing.turn * 3.5 * u if thing.motion == "spin" else 0.0)
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return torch.tensor([[c, -s, x], [s, c, y], [0.0, 0.0, 1.0]])


def _camera(scene: Scene, u: float, weight: float) -> Tensor:
    """Screen -> layer for a layer that feels `weight` of the camera's travel and zoom."""
    right, down = _TRUCKS.get(scene.camera, (0, 0))
    x, y = right * scene.amount * (u - 0.5), down * scene.amount * (u - 0.5)
    if scene.camera == "follow":
        x, y = thing_position(scene.things[0], u)
    zoom = math.exp(-_ZOOMS.get(scene.camera, 0.0) * scene.amount * 1.4 * (u - 0.5) * weight)
    angle = scene.amount * 1.6 * (u - 0.5) if scene.camera == "rotate" else 0.0
    c, s = zoom * math.cos(angle), zoom * math.sin(angle)
    return torch.tensor([[c, -s, x * weight], [s, c, y * weight], [0.0, 0.0, 1.0]])


def _screen(height: int, width: int, device: torch.device | str) -> Tensor:
    """(H, W, 3): centre of each pixel as (x, y, 1) in short sides."""
    side = min(height, width)
    y = (torch.arange(height, device=device) + 0.5 - height / 2) / side
    x = (torch.arange(width, device=device) + 0.5 - width / 2) / side
    grid = torch.ones(height, width, 3, device=device)
    grid[..., 0], grid[..., 1] = x[None, :], y[:, None]
    return grid


def _flow(maps: Tensor, owner: Tensor, grid: Tensor, side: int) -> Tensor:
    steps = torch.linalg.inv(maps[:, :, 1:]) @ maps[:, :, :-1] - torch.eye(3, device=maps.device)
    flow = torch.zeros(*owner[:, 1:].shape, 2, device=maps.device)
    for layer in range(maps.shape[1]):
        moved = torch.einsum("btij,hwj->bthwi", steps[:, layer, :, :2], grid)
        flow = torch.where((owner[:, :-1] == layer)[..., None], moved, flow)
    return flow.permute(0, 1, 4, 2, 3) * side


Paint = Callable[[Scene, Tensor, Tensor, float], Tensor]  # scene, local (t,H,W,2), tone (3,), pixel -> (t,H,W,3)


def _by_kind(kinds: list[str], local: Tensor, tones: list[str], scenes: Sequence[Scene], pixel: float,
             paints: dict[str, Paint]) -> Tensor:  # fmt: skip
    rows = [
        paints[kind](scene, where, torch.tensor(TONES[tone], device=local.device), pixel)
        for kind, where, tone, scene in zip(kinds, local, tones, scenes, strict=True)
    ]
    return torch.stack(rows)


def _soft(value: Tensor, width: float) -> Tensor:
    """A step at 0, `width` wide."""
    return (value / width + 0.5).clamp(0, 1)


def _plain(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    return tone.expand(*local.shape[:-1], 3)


def _gradient(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    return tone + 0.18 * local[..., 1:].clamp(-0.8, 0.8)


def _sky(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    x, y = local.unbind(-1)
    phase, length = scene.wave
    cloud = torch.sin(6.28 / length * x + phase) * torch.sin(5.1 / length * y + 2 * phase) + 0.4 * torch.sin(11 * x - y)
    return _gradient(scene, local, tone, pixel) + 0.12 * _soft(cloud - 0.35, 0.5)[..., None]


def _stripes(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    wave = torch.sin(6.28 / (0.5 * scene.wave[1]) * local[..., 0] + scene.wave[0])
    return tone + 0.1 * (_soft(wave, 0.6) - 0.5)[..., None]


def _grid(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    cell = 0.4 * scene.wave[1]
    distance = (torch.remainder(local / cell, 1) - 0.5).abs().amax(-1)
    return tone - 0.14 * _soft(distance - 0.44, pixel / cell)[..., None]


def _checker(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    wave = torch.sin(6.28 / (0.6 * scene.wave[1]) * local).prod(-1)
    return tone + 0.14 * (_soft(wave, 0.2) - 0.5)[..., None]


def _floor(scene: Scene, local: Tensor, tone: Tensor, pixel: float) -> Tensor:
    return tone - 0.12 * (local[..., 1:] - scene.horizon).clamp(0, 0.6)


_FAR_PAINT: dict[str, Paint] = {
    "plain": _plain, "gradient": _gradient, "sky": _sky, "stripes": _stripes, "grid": _grid,
}  # fmt: skip
_NEAR_PAINT: dict[str, Paint] = {"none": _plain, "floor": _floor, "hills": _floor, "checker": _checker}


def _near_alpha(scene: Scene, local: Tensor, pixel: float) -> Tensor:
    x, y = local.unbind(-1)
    if scene.near == "none":
        return torch.zeros_like(x)
    edge: float | Tensor = scene.horizon
    if scene.near == "hills":
        edge = edge + 0.1 * torch.sin(6.28 / scene.wave[1] * x + scene.wave[0])
    return _soft(y - edge, pixel)


def _thing_paint(thing: Thing, local: Tensor) -> Tensor:
    colour = torch.tensor(COLOURS[thing.colour], device=local.device)
    if thing.texture == "plain":
        return colour.expand(*local.shape[:-1], 3)
    x, y = local.unbind(-1)
    dark = {
        "striped": torch.sin(9.4 * x),
        "dotted": 0.13 - (torch.remainder(local / 0.62, 1) - 0.5).square().sum(-1).sqrt() + 0.08,
        "checkered": torch.sin(7.8 * x) * torch.sin(7.8 * y),
    }[thing.texture]
    shade = {"black": colour + 0.12, "white": colour * 0.88}.get(thing.colour, colour * 0.72)  # still black and white
    return colour + (shade - colour) * _soft(dark, 0.3)[..., None]


def _circle(p: Tensor) -> Tensor:
    return p.square().sum(-1).sqrt() - 1


def _square(p: Tensor) -> Tensor:
    return p.abs().amax(-1) - 0.88


def _triangle(p: Tensor) -> Tensor:
    x, y = p.unbind(-1)
    return torch.maximum(0.8944 * x.abs() - 0.4472 * (y + 1.1), y - 0.8)


def _star(p: Tensor) -> Tensor:
    x, y = p.unbind(-1)
    angle = torch.atan2(x, -y)
    fold = (torch.remainder(angle + math.pi / 5, 2 * math.pi / 5) - math.pi / 5).abs()
    r = p.square().sum(-1).sqrt()
    px, py = r * torch.cos(fold), r * torch.sin(fold)
    # The edge runs from the tip (1.15, 0) to the notch at 36 degrees.
    nx, ny = 0.5 * math.cos(math.pi / 5), 0.5 * math.sin(math.pi / 5)
    ex, ey = nx - 1.15, ny
    return ((py * ex - (px - 1.15) * ey) * -1) / math.hypot(ex, ey)


def _ring(p: Tensor) -> Tensor:
    return (p.square().sum(-1).sqrt() - 0.75).abs() - 0.27


def _diamond(p: Tensor) -> Tensor:
    return (p[..., 0].abs() * 1.25 + p[..., 1].abs() - 1.1) * 0.625


def _cross(p: Tensor) -> Tensor:
    a = p.abs()
    return torch.maximum(a.amin(-1) - 0.33, a.amax(-1) - 1)


_SHAPE_SDF: dict[str, Callable[[Tensor], Tensor]] = {
    "circle": _circle, "square": _square, "triangle": _triangle, "star": _star, "ring": _ring, "diamond": _diamond,
    "cross": _cross,
}  # fmt: skip


def shape_mask(name: str, angle: float, size: int) -> np.ndarray:
    """A shape alone, as (size, size) bool with a margin: what the judge compares with."""
    grid = _screen(size, size, "cpu")[..., :2] * 3
    c, s = math.cos(angle), math.sin(angle)
    turned = torch.stack([c * grid[..., 0] + s * grid[..., 1], c * grid[..., 1] - s * grid[..., 0]], -1)
    return (_SHAPE_SDF[name](turned) < 0).numpy()
