"""A picture of unfinished latents: a linear map from latent channels to colour, fitted once per VAE.

No published map exists for this VAE, so one is fitted by encoding generated colour pictures; the map of each of the
three latent positions of a chunk is its own, since the first codes one frame and the others eight each.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save

from models.checkpoint import fingerprint
from models.geometry import CHUNK_FRAMES, CHUNK_LATENTS, PIXELS_PER_LATENT
from models.regular_files import SMALL_FILE, CheckpointError
from models.weight_files import read_tensors
from studio.filenames import write_whole

SHIPPED = "preview_colours.safetensors"  # in a checkpoint folder whose maker fitted the map already
PICTURES, PICTURE_SIDE = 6, 64
LONG_SIDE = 512  # pixels of the preview
FRAME_MS = 160  # a latent frame stands for about six frames at 25 per second


@dataclass(frozen=True)
class LatentColours:
    """maps: (3, c + 1, 3): for each latent position, channels and a constant to RGB in -1..1."""

    maps: torch.Tensor

    @classmethod
    def fit(cls, encode: Callable[[torch.Tensor], torch.Tensor]) -> "LatentColours":
        """Least squares over encoded pictures. `encode`: video (1, 17, 3, H, W) in -1..1 to (1, 3, 2c, h, w)."""
        generator = torch.Generator("cpu").manual_seed(17)
        samples: list[list[torch.Tensor]] = [[] for _ in range(CHUNK_LATENTS)]
        colours = []
        for _ in range(PICTURES):
            corners = torch.rand(1, 3, 4, 4, generator=generator) * 2 - 1
            picture = F.interpolate(corners, size=(PICTURE_SIDE, PICTURE_SIDE), mode="bilinear", align_corners=True)
            moments = encode(picture.expand(CHUNK_FRAMES, -1, -1, -1)[None]).float().cpu()
            colours.append(F.avg_pool2d(picture, PIXELS_PER_LATENT)[0].flatten(1).T)
            for position, latent in enumerate(moments[0, :, : moments.shape[2] // 2]):
                samples[position].append(latent.flatten(1).T)
        target = torch.cat(colours).double()
        return cls(torch.stack([_solve(torch.cat(part).double(), target) for part in samples]).float())

    @classmethod
    def load(cls, path: Path, channels: int, vae: str | None = None) -> "LatentColours | None":
        """The map of so many latent channels stored at `path`; None where there is none. vae: the fingerprint that the
        file must name, so that no map of other weights is taken."""
        try:
            tensors = read_tensors(path, SMALL_FILE)
            maps = tensors["maps"]
            if vae is not None and bytes(tensors["vae"].to(torch.uint8).tolist()).hex() != vae:
                return None
        except (CheckpointError, KeyError):
            return None
        fits = maps.shape == (CHUNK_LATENTS, channels + 1, 3) and maps.is_floating_point()
        return cls(maps.float()) if fits and bool(torch.isfinite(maps).all()) else None

    def store(self, path: Path) -> None:
        """Write the map; a failed write is no error, it is fitted again next time."""
        with suppress(OSError):
            write_whole(path, save({"maps": self.maps}))

    def ship(self, folder: Path) -> None:
        """Write the map of the VAE in a checkpoint folder beside it, so that nobody fits it again. Raises OSError."""
        vae = torch.tensor(list(bytes.fromhex(fingerprint(folder, "vae", SHIPPED))), dtype=torch.uint8)
        write_whole(folder / SHIPPED, save({"maps": self.maps, "vae": vae}))

    @classmethod
    def shipped(cls, folder: Path, channels: int) -> "LatentColours | None":
        """The map that lies beside the VAE in its checkpoint folder; None where none of these weights does."""
        path = folder / SHIPPED
        return cls.load(path, channels, fingerprint(folder, "vae", SHIPPED)) if path.is_file() else None

    def frames(self, latents: torch.Tensor) -> np.ndarray:
        """Latents (1, f, c, h, w) -> uint8 (f, h, w, 3)."""
        latents = latents[0].float().cpu()
        positions = torch.arange(len(latents)) % CHUNK_LATENTS
        ones = torch.ones_like(latents[:, :1])
        colours = torch.einsum("fchw,fck->fhwk", torch.cat([latents, ones], 1), self.maps[positions])
        return ((colours.clamp(-1, 1) + 1) * 127.5).byte().numpy()


def write_preview(path: Path, frames: np.ndarray, frame_ms: int = FRAME_MS) -> None:
    """uint8 (f, h, w, 3) -> a looping webp, small frames scaled up smoothly, large ones as they are.

    It is replaced in one step: readers see whole files.
    """
    height, width = frames.shape[1:3]
    scale = max(LONG_SIDE / max(height, width), 1.0)
    size = (round(width * scale), round(height * scale))
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    file = BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], duration=frame_ms, loop=0, quality=75, method=0
    )
    write_whole(path, file.getvalue())


def _solve(latents: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Ridge regression: latents (n, c), colours (n, 3) -> (c + 1, 3). The ridge keeps noise channels small."""
    rows = torch.cat([latents, torch.ones(len(latents), 1, dtype=latents.dtype)], 1)
    ridge = 1e-3 * len(rows) * torch.eye(rows.shape[1], dtype=rows.dtype)
    ridge[-1, -1] = 0
    return torch.linalg.solve(rows.T @ rows + ridge, rows.T @ colours)
