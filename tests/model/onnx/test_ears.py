"""Levelling and log-mel in ONNX Runtime against those of preprocessing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from valence.audio import mel, segmentation
from valence.config import MelConfig, PreprocessConfig
from valence.errors import UsageError
from valence.model.onnx.ears import level, log_mel
from valence.model.onnx.graph import Graph, even_blocks, new_graph

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

Array = np.ndarray


def _run(add: Callable[[Graph, str], str], x: Array, axes: int) -> Array:
    """What ONNX Runtime makes of `x` with the nodes that `add` adds."""
    graph = new_graph()
    graph.add("Identity", add(graph, "x"), named="y")
    shapes = ([f"in{axis}" for axis in range(x.ndim)], [f"out{axis}" for axis in range(axes)])
    content = graph.finish({"x": shapes[0]}, {"y": shapes[1]}, {})
    (found,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
    return found


@pytest.mark.parametrize("kind", ["peak", "rms"])
def test_levels_are_the_same_bits(kind: str) -> None:
    config = PreprocessConfig(level=kind, level_dbfs=-7.5)
    segments = np.random.default_rng(0).standard_normal((6, 800)).astype(np.float32)
    segments[1] *= 1e-30
    segments[2] = 0
    # Fainter than the smallest normal number: silence, which stays as it is.
    segments[3] = 1e-40
    segments[4] = -segments[4] * 1e30
    found = _run(lambda graph, x: level(graph, config, x), segments, 2)
    expected = segmentation.normalize(segments, level=kind, level_dbfs=-7.5)
    if kind == "peak":
        np.testing.assert_array_equal(found, expected)
        assert np.abs(found[0]).max() == np.float32(10 ** (-7.5 / 20))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(found[2:4], segments[2:4])


@pytest.mark.parametrize(
    ("n_fft", "hop_length", "n_mels", "n_frames", "samples"),
    [
        (1024, 256, 128, 34, 8000),
        (512, 160, 40, 52, 8000),
        (1000, 250, 64, 21, 4999),
        # No split into two factors, an odd length, and frames that lie apart.
        (251, 100, 20, 12, 1100),
        (105, 35, 8, 9, 280),
        (64, 100, 5, 4, 300),
    ],
)
def test_log_mel_is_that_of_preprocessing(
    n_fft: int, hop_length: int, n_mels: int, n_frames: int, samples: int
) -> None:
    config = MelConfig(n_fft=n_fft, hop_length=hop_length, n_mels=n_mels, n_frames=n_frames)
    rng = np.random.default_rng(1)
    time = np.arange(samples) / 16_000
    segments = np.stack(
        [
            0.3 * np.sin(2 * np.pi * 180 * time) + 0.1 * np.sin(2 * np.pi * 2600 * time),
            0.1 * rng.standard_normal(samples),
            np.zeros(samples),
        ]
    ).astype(np.float32)
    segments[0] += 1e-3 * rng.standard_normal(samples).astype(np.float32)
    expected = mel.log_mel(segments, config, sr=16_000)
    found = _run(
        lambda graph, x: log_mel(graph, config, x, samples=samples, sr=16_000), segments, 3
    )
    assert found.shape == (3, n_mels, n_frames)
    # Where a band is 80 dB below the loudest, the last bits of float32 show.
    heard = expected > expected.max() - 80
    np.testing.assert_allclose(found[heard], expected[heard], atol=0.01)
    np.testing.assert_allclose(found[2], -100, atol=1e-4)
    assert np.ptp(expected[1]) > 10


def test_a_long_transform_of_prime_length_is_refused() -> None:
    config = MelConfig(n_fft=16_381, hop_length=256)
    with pytest.raises(UsageError, match=r"n_fft = 16381, which has a large prime .*--input mel"):
        log_mel(new_graph(), config, "x", samples=8000, sr=16_000)


@given(count=st.integers(1, 5000), most=st.integers(1, 300))
def test_blocks_are_few_and_even(count: int, most: int) -> None:
    def add(graph: Graph, x: str) -> str:
        wanted = graph.add("Identity", graph.whole(count))
        return graph.cast(graph.shape(*even_blocks(graph, wanted, most)), "FLOAT")

    blocks, size = (int(value) for value in _counted(add))
    assert blocks == -(-count // most)
    assert size <= most
    assert count <= blocks * size < count + blocks


def _counted(add: Callable[[Graph, str], str]) -> Array:
    graph = new_graph()
    graph.add("Identity", add(graph, ""), named="y")
    session = onnxruntime.InferenceSession(graph.finish({}, {"y": [2]}, {}))
    (found,) = session.run(None, {})
    return found
