"""Compile the CNN for a device, where the device's compiler works.

The compiled CNN reads and writes fixed shapes and never waits for the device. So a caller could
also capture it as a CUDA graph; this module does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from valence.config import Precision
from valence.model.network import ValenceModel

Encode = Callable[[Tensor], Tensor]

BACKEND: Any = "inductor"


def compiled_encode(
    model: ValenceModel, *, segments: int, dtype: torch.dtype, autocast: torch.autocast
) -> tuple[Encode | None, str]:
    """Compile `model.encode` for `segments` segments at once, and return a remark for the user.

    The compiled CNN first runs once forwards and backwards, because only then a machine without
    the compiler's tools shows an error. On such a machine None is returned instead of the compiled
    CNN, and the model trains uncompiled.

    Parameters
    ----------
    model
        Model on its device, in training mode. Its weights, statistics and gradients do not change.
    segments
        Number of segments in a full batch. Call the compiled CNN with this number alone: each other
        number would be compiled anew.
    dtype
        Type of the mel.
    autocast
        Context that sets the precision of the steps.
    """
    # torch counts the models of other seeds as recompilations, and allows only a few of them.
    torch.compiler.reset()
    encode: Encode = torch.compile(model.encode, dynamic=False, backend=BACKEND)
    buffers = [buffer.clone() for buffer in model.buffers()]
    mel = torch.zeros(segments, model.n_mels, model.n_frames, dtype=dtype, device=model.mean.device)
    try:
        with autocast:
            encoded = encode(mel)
        encoded.sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        # The first line may name only the part of torch that failed; then the second has the error.
        reason = " ".join(str(error).split("\n")[:2])
        return None, f"the CNN is not compiled, which costs speed alone: {reason}"
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return encode, "the CNN is compiled"


def precision_on(device: torch.device, asked: Literal["auto"] | Precision) -> Precision:
    """Return the precision on `device` if `train.precision` is `asked`.

    `auto` means bfloat16 on GPUs that compute in it, and float32 on CPUs and on older GPUs, which
    only emulate bfloat16, slowly.
    """
    if asked != "auto":
        return asked
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return "bfloat16"
    return "float32"
