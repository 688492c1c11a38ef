"""The CNN's steps compiled for a device, where its compiler works.

What is compiled reads and writes fixed shapes and never waits, so that it can also be captured as
a CUDA graph; nothing here captures one.
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
    """`model.encode` compiled for `segments` segments at once, and a remark for the user.

    It is tried forwards and backwards first: a machine without the compiler's own tools shows only
    then, and it trains uncompiled.

    Parameters
    ----------
    model
        On its device, in training mode; its weights, statistics and gradients are left as they are.
    segments
        Of a full batch. Another number would be compiled anew, so it is not to be given one.
    dtype
        Of the mel.
    autocast
        The precision that steps are taken in.
    """
    # The models of other seeds count as recompilations of this one, of which few are allowed.
    torch.compiler.reset()
    encode: Encode = torch.compile(model.encode, dynamic=False, backend=BACKEND)
    buffers = [buffer.clone() for buffer in model.buffers()]
    mel = torch.zeros(segments, model.n_mels, model.n_frames, dtype=dtype, device=model.mean.device)
    try:
        with autocast:
            encoded = encode(mel)
        encoded.sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        # The first line may name only who raised what the second one tells.
        reason = " ".join(str(error).split("\n")[:2])
        return None, f"the CNN is not compiled, which costs speed alone: {reason}"
    finally:
        model.zero_grad(set_to_none=True)
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)
    return encode, "the CNN is compiled"


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
