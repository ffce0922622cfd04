"""Previews: a linear map from latents to colour."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from models.layout import LAYOUT
from studio.checkpoints.inspect import inspect
from studio.nano.checkpoint import write_checkpoint
from studio.pipeline.colour_fit import PreviewColours
from studio.pipeline.preview import SHIPPED, LatentColours, write_preview
from tests.tiny import TINY


def linear_encoder(channels: int):
    """A VAE whose latents are linear in colour, differently at each of the three positions."""
    weights = torch.randn(3, channels, 3, generator=torch.Generator().manual_seed(1))

    def encode(video: torch.Tensor) -> torch.Tensor:
        pooled = F.avg_pool2d(video[0, 0], 16)
        latents = torch.einsum("pck,khw->pchw", weights, pooled)
        return torch.cat([latents, torch.zeros_like(latents)], 1)[None]

    return encode, weights


def test_fitted_colours_invert_a_linear_encoder(tmp_path):
    encode, weights = linear_encoder(8)
    colours = LatentColours.fit(encode)
    wanted = torch.tensor([0.5, -0.5, 0.9])
    latents = torch.einsum("pck,k->pc", weights, wanted)[None, :, :, None, None].expand(1, 3, 8, 2, 3)
    frames = colours.frames(latents)
    assert frames.shape == (3, 2, 3, 3) and frames.dtype == np.uint8
    expected = (wanted.numpy() + 1) * 127.5
    assert np.abs(frames - expected).max() < 4
    colours.store(tmp_path / "new" / "map.safetensors")
    assert torch.equal(LatentColours.load(tmp_path / "new" / "map.safetensors", 8).maps, colours.maps)


def test_no_map_or_one_of_another_shape_is_none(tmp_path):
    assert LatentColours.load(tmp_path / "absent", 8) is None
    (tmp_path / "bad").write_bytes(b"xx")
    assert LatentColours.load(tmp_path / "bad", 8) is None
    for maps in (
        torch.ones(3, 8, 3),
        torch.ones(3, 9, 3, 1),
        torch.ones(3, 9, 3).long(),
        torch.full((3, 9, 3), torch.nan),
    ):
        LatentColours(maps).store(tmp_path / "other")
        assert LatentColours.load(tmp_path / "other", 8) is None, maps.shape


def test_a_map_that_came_with_the_vae_is_used_and_never_one_of_other_weights(tmp_path):
    folder = write_checkpoint(tmp_path / "model", TINY)
    assert LatentColours.shipped(folder, 8) is None
    colours = LatentColours.fit(linear_encoder(8)[0])
    colours.ship(folder)
    assert inspect(folder).ok, "the map is no part of the public layout, and no fault of the folder"
    found = LatentColours.shipped(folder, 8)
    assert found is not None and torch.equal(found.maps, colours.maps)
    assert torch.equal(PreviewColours(folder, tmp_path / "none", 8).now().maps, colours.maps)
    weights = folder / LAYOUT["vae"].folder / LAYOUT["vae"].weights[0]
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert LatentColours.shipped(folder, 8) is None
    colours.store(folder / SHIPPED)
    assert LatentColours.shipped(folder, 8) is None, "it does not say whose it is"


def test_preview_file_is_a_looping_picture_of_its_frames(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (6, 8, 14, 3)).astype(np.uint8)
    write_preview(tmp_path / "p.webp", frames)
    image = Image.open(tmp_path / "p.webp")
    assert image.n_frames == 6 and max(image.size) >= 480 and image.info["loop"] == 0
    assert not list(tmp_path.glob("*.tmp"))
