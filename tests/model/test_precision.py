"""Where nothing else is asked, only GPUs that compute in bfloat16 do."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from valence.config import Precision
from valence.model.acceleration import precision_on


@pytest.mark.parametrize(
    ("device", "native", "asked", "expected"),
    [
        ("cpu", True, "auto", "float32"),
        ("cuda", True, "auto", "bfloat16"),
        ("cuda", False, "auto", "float32"),
        ("cuda", False, "bfloat16", "bfloat16"),
        ("cuda", True, "float32", "float32"),
        ("cpu", False, "bfloat16", "bfloat16"),
    ],
)
def test_precision_by_device(
    device: str,
    native: bool,
    asked: Literal["auto"] | Precision,
    expected: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def supported(*, including_emulation: bool) -> bool:
        return native or including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", supported)
    assert precision_on(torch.device(device), asked) == expected
