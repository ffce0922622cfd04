"""`decode`: a video from saved latents."""

from studio.commands.generate import run_decode as run

__all__ = ["run"]
