"""The precision of the CNN's values, which a device may be faster in."""

from __future__ import annotations

from typing import Literal

import torch

from valence.config import Precision


def precision_on(device: torch.device, asked: Literal["auto"] | Precision) -> Precision:
    """The precision on `device` where `train.precision` is `asked`.

    `auto` is bfloat16 on GPUs that compute in it. Older ones only imitate it, slowly, and it is
    float32 there as on CPUs.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"
