"""Numbers that are not finite end a job in the phase that makes them: they would be shown as colours, and be cached."""

from collections.abc import Iterable

import torch

from studio.errors import StudioError

WHAT = {
    "encode_text": {"en": "The encoded texts", "zh": "编码后的文字"},
    "encode_image": {"en": "The encoded pictures", "zh": "编码后的图片"},
    "decode": {"en": "The decoded frames", "zh": "解码后的画面"},
}


def refuse(phase: str, frame: int = 0) -> None:
    """Raise StudioError: numbers are not finite. Arguments as of `check_finite`."""
    raise StudioError("values_not_finite", what=WHAT[phase], phase=phase, frame=frame)


def check_finite(tensors: Iterable[torch.Tensor], phase: str, frame: int = 0) -> None:
    """Raise StudioError unless all numbers are finite. phase: of WHAT; frame: the first one of the tensors."""
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
        refuse(phase, frame)
