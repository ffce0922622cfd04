"""The synthetic world: what a scene may hold, and how one is drawn from a seed. Plain python, no pixels.

Objects are vivid (or black, or white); backgrounds are muted and of middle brightness. That rule makes every object
findable by classical vision, which is what the judge stands on. Lengths are in units of the frame's short side, so a
scene means the same at 64x64 and at 128x224; x points right, y points down; time runs 0..1 over the clip.
"""

import random
from dataclasses import dataclass, field

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.90, 0.08, 0.08),
    "yellow": (0.98, 0.88, 0.05),
    "green": (0.05, 0.65, 0.12),
    "blue": (0.08, 0.20, 0.92),
    "purple": (0.52, 0.08, 0.78),
    "cyan": (0.05, 0.85, 0.92),
    "white": (0.98, 0.98, 0.98),
    "black": (0.03, 0.03, 0.03),
    "orange": (1.00, 0.48, 0.02),
    "pink": (1.00, 0.42, 0.72),
    "brown": (0.42, 0.20, 0.04),
    "lime": (0.60, 0.98, 0.10),
}
TONES: dict[str, RGB] = {
    "grey": (0.55, 0.55, 0.55),
    "beige": (0.70, 0.64, 0.54),
    "slate": (0.36, 0.40, 0.46),
    "misty blue": (0.54, 0.63, 0.70),
    "sage": (0.48, 0.58, 0.48),
    "dusty rose": (0.68, 0.56, 0.56),
}
SHAPES = ("circle", "square", "triangle", "star", "ring", "diamond", "cross")
TEXTURES = ("plain", "striped", "dotted", "checkered")
DIRECTIONS: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOTIONS = (*DIRECTIONS, "still", "grow", "shrink", "spin", "circle", "bounce")
FAR = ("plain", "gradient", "sky", "stripes", "grid")
NEAR = ("none", "floor", "hills", "checker")
# Every camera move of configs/camera_moves.yaml but `focus`: a flat world has no lens.
CAMERAS = (
    "fixed", "left", "right", "up", "down", "pan-left", "pan-right", "tilt-up", "tilt-down",
    "zoom-in", "zoom-out", "push-in", "pull-out", "rotate", "follow", "orbit",
)  # fmt: skip
# Moves that differ by parallax alone are one class for the judge.
CAMERA_CLASSES: dict[str, str] = {
    "pan-left": "left", "pan-right": "right", "tilt-up": "up", "tilt-down": "down",
    "push-in": "zoom-in", "pull-out": "zoom-out", "orbit": "follow",
}  # fmt: skip


@dataclass(frozen=True)
class WorldSettings:
    """How much of the world a model sees. The default is all of it; `SMALL` is a subset a CPU can learn in an hour."""

    colours: tuple[str, ...] = tuple(COLOURS)
    shapes: tuple[str, ...] = SHAPES
    textures: tuple[str, ...] = TEXTURES
    motions: tuple[str, ...] = MOTIONS
    far: tuple[str, ...] = FAR
    near: tuple[str, ...] = NEAR
    tones: tuple[str, ...] = tuple(TONES)
    cameras: tuple[str, ...] = CAMERAS
    camera_share: float = 0.5
    pair_share: float = 0.3
    radius: tuple[float, float] = (0.125, 0.22)
    travel: tuple[float, float] = (0.2, 0.55)
    amount: tuple[float, float] = (0.1, 0.5)  # of camera travel and zoom


SMALL = WorldSettings(
    colours=("red", "yellow", "green", "blue", "purple", "cyan", "white", "black"),
    shapes=("circle", "square", "triangle"),
    textures=("plain",),
    motions=("left", "right", "up", "down", "still", "grow", "shrink"),
    far=("plain", "gradient"),
    near=("none", "floor", "hills"),
    tones=("grey", "beige", "slate", "misty blue"),
    cameras=("fixed", "left", "right", "zoom-in", "zoom-out"),
    camera_share=0.4,
    pair_share=0.0,
    radius=(0.16, 0.22),
    travel=(0.25, 0.6),
)
WORLDS: dict[str, WorldSettings] = {"full": WorldSettings(), "small": SMALL}


@dataclass(frozen=True)
class Thing:
    """One object: how it looks, where the middle of its path is, how far and which way round it goes."""

    shape: str
    colour: str
    texture: str
    motion: str
    radius: float
    centre: tuple[float, float]
    travel: float
    turn: float = 1.0  # +1 clockwise on screen, -1 the other way
    angle: float = 0.0  # radians


@dataclass(frozen=True)
class Scene:
    """One clip, complete: the same scene always renders to the same pixels."""

    things: tuple[Thing, ...]
    far: str
    far_tone: str
    near: str
    near_tone: str
    horizon: float
    camera: str  # "" = nothing said about the camera, and it stands still
    amount: float
    wave: tuple[float, float] = field(default=(0.0, 0.0))  # phase and length of hills, clouds and stripes

    @property
    def camera_class(self) -> str:
        """What the judge calls this camera ("fixed" where nothing was asked)."""
        return CAMERA_CLASSES.get(self.camera, self.camera or "fixed")


def draw_scene(seed: int, world: WorldSettings) -> Scene:
    """The scene of a seed. Scenes of one world and different seeds are independent."""
    dice = random.Random(seed)
    pair = dice.random() < world.pair_share
    colours = dice.sample(world.colours, 2 if pair else 1)
    sides = [(-0.22, 0.0), (0.22, 0.0)] if pair else [(0.0, 0.0)]
    things = tuple(_draw_thing(dice, world, *args, pair) for args in zip(colours, sides, strict=True))
    # Following needs something that goes somewhere, and circling round something needs it to stay.
    needs = {"follow": tuple(DIRECTIONS), "orbit": ("still", "grow", "shrink", "spin")}
    cameras = [name for name in world.cameras if things[0].motion in needs.get(name, MOTIONS)]
    far_tone, near_tone = dice.sample(world.tones, 2)
    return Scene(
        things=things,
        far=dice.choice(world.far),
        far_tone=far_tone,
        near=dice.choice(world.near),
        near_tone=near_tone,
        horizon=dice.uniform(0.05, 0.25),
        camera=dice.choice(cameras) if dice.random() < world.camera_share else "",
        amount=dice.uniform(*world.amount),
        wave=(dice.uniform(0, 6.28), dice.uniform(0.5, 0.8)),
    )


def _draw_thing(dice: random.Random, world: WorldSettings, colour: str, side: tuple[float, float], pair: bool) -> Thing:
    shape = dice.choice(world.shapes)
    texture = dice.choice(world.textures)
    is_round = shape in ("circle", "ring")  # its outline does not show that it spins
    motion = dice.choice([name for name in world.motions if name != "spin" or not is_round])
    shrink = 0.7 if pair else 1.0
    jitter = 0.06 if motion in DIRECTIONS or pair else 0.12
    return Thing(
        shape=shape,
        colour=colour,
        texture=texture,
        motion=motion,
        radius=max(dice.uniform(*world.radius) * shrink, world.radius[0]),
        centre=(side[0] + dice.uniform(-jitter, jitter), side[1] + dice.uniform(-jitter, jitter)),
        travel=dice.uniform(*world.travel) * shrink,
        turn=dice.choice((-1.0, 1.0)),
        angle=dice.uniform(-0.3, 0.3) if motion == "spin" else 0.0,
    )
