"""Sizes of a video in frames and pixels, and of its latents. Needs no torch: settings, planner and page use it too.

The VAE codes a chunk of 17 frames as 3 latent frames (the first frame alone, then eight and eight) and 16 x 16 pixels
as one latent position (paper arXiv 2502.10248, section 4.1). A single frame is one latent frame.
"""

from dataclasses import dataclass

CHUNK_FRAMES, CHUNK_LATENTS = 17, 3
PIXELS_PER_LATENT = 16  # along height and along width


@dataclass(frozen=True)
class VideoShape:
    """A video in frames and pixels. Nothing is checked: settings refuse sizes that do not divide."""

    frames: int
    height: int
    width: int

    @property
    def chunks(self) -> int:
        """Chunks of the VAE, which decodes one after the other; a single frame counts as one."""
        return max(self.frames // CHUNK_FRAMES, 1)

    @property
    def latent_frames(self) -> int:
        """Frames of the latents: 3 for 17, 1 for a single frame."""
        return max(self.frames // CHUNK_FRAMES * CHUNK_LATENTS, 1)

    @property
    def latent_height(self) -> int:
        """Rows of the latents."""
        return self.height // PIXELS_PER_LATENT

    @property
    def latent_width(self) -> int:
        """Columns of the latents."""
        return self.width // PIXELS_PER_LATENT

    @property
    def tokens(self) -> int:
        """Tokens of the transformer: one per latent position."""
        return self.latent_frames * self.latent_height * self.latent_width

    def latent_shape(self, channels: int, batch: int = 1) -> tuple[int, int, int, int, int]:
        """(b, f, c, h, w) of the latents."""
        return batch, self.latent_frames, channels, self.latent_height, self.latent_width


def is_frame_count(frames: int) -> bool:
    """Whether the VAE can code this number of frames: 1 or a positive multiple of 17."""
    return frames == 1 or (frames > 0 and frames % CHUNK_FRAMES == 0)


def is_latent_count(frames: int) -> bool:
    """Whether the VAE can decode this number of latent frames: 1 or a positive multiple of 3."""
    return frames == 1 or (frames > 0 and frames % CHUNK_LATENTS == 0)


def frame_counts(limit: int) -> list[int]:
    """The numbers of frames up to `limit` that the VAE can code: 1, 17, 34, ..."""
    return [1, *range(CHUNK_FRAMES, limit + 1, CHUNK_FRAMES)]
