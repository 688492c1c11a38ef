"""Where somebody speaks: shares by hand, the rule of energy, and real speech."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from valence.audio import silero
from valence.audio.decoding import AudioReading
from valence.audio.speech import (
    SpeechDetector,
    SpeechSettings,
    shares_of,
    silent_steps,
    speech_by_energy,
    speech_method,
)
from valence.errors import ModelError, UsageError
from valence.storage.location import Location

SR = 16_000
INSTALLED = silero.version() is not None
METHODS = ["energy", *(["silero"] if INSTALLED else [])]
needs_silero = pytest.mark.skipif(not INSTALLED, reason="the extra 'speech' is not installed")


def _shares(y: NDArray[np.float32], method: str, *, sr: int = SR, block: int = 5000) -> list[float]:
    detector = SpeechDetector(method, sr=sr)
    blocks = [y[start : start + block] for start in range(0, len(y), block)]
    heard = list(detector.listen(blocks))
    np.testing.assert_array_equal(np.concatenate(heard), y)
    found: list[float] = detector.shares(len(y) // (sr // 2), step=0.5).tolist()
    return found


def _file(corpus: Location, name: str) -> Path:
    (file,) = (f for f in (corpus / "raw_data" / "audio").files() if f.stem == name)
    return Path(file.path)


def _read(corpus: Location, name: str) -> NDArray[np.float32]:
    return np.concatenate(list(AudioReading(_file(corpus, name), sr=SR, channel="mean")))


def test_shares_by_hand() -> None:
    # Frames of 0.2 s on steps of 0.5 s: the third frame lies in both steps.
    speech = np.array([False, True, True, False, False])
    assert shares_of(speech, 0.2, 2, step=0.5).tolist() == pytest.approx([0.6, 0.2], abs=1e-6)
    assert shares_of(np.ones(5, bool), 0.2, 2, step=0.5).tolist() == [1, 1]
    # The frames end within the second of three steps.
    found = shares_of(np.ones(4, bool), 0.2, 3, step=0.5).tolist()
    assert found == pytest.approx([1, 0.6, 0], abs=1e-6)
    assert shares_of(np.empty(0, bool), 0.2, 2, step=0.5).tolist() == [0, 0]


def test_shares_are_those_of_samples() -> None:
    rng = np.random.default_rng(5)
    for samples, n in ((512, 7), (300, 13), (9000, 4)):
        speech = rng.random(-(-n * 8000 // samples)) < 0.5
        by_sample = np.repeat(speech, samples)[: n * 8000].reshape(n, 8000).mean(axis=1)
        np.testing.assert_allclose(
            shares_of(speech, samples / SR, n, step=0.5), by_sample, atol=1e-4
        )


def test_a_share_that_equals_the_least_is_speech() -> None:
    shares = np.array([0.0, 0.0999, 0.1, 0.7], np.float32)
    silent = silent_steps(shares, 0.1)
    assert silent is not None
    assert silent.tolist() == [True, True, False, False]
    assert silent_steps(None, 0.1) is None


def _power(*levels: tuple[float, int]) -> NDArray[np.float64]:
    """Frames of these levels in dB, so many each."""
    return np.concatenate([np.full(n, 10 ** (level / 10)) for level, n in levels])


def test_energy_by_hand() -> None:
    # Loud speech at -20 dB and a room at -80: speech reaches down to -55.
    power = _power((-20, 50), (-80, 20), (-54, 20), (-56, 20), (-20, 50))
    expected = np.repeat([True, False, True, False, True], [50, 20, 20, 20, 50])
    np.testing.assert_array_equal(speech_by_energy(power, 0.032), expected)
    # A room at -50 dB: speech must lie above -44.
    power = _power((-20, 50), (-50, 20), (-43, 20), (-45, 20), (-20, 50))
    np.testing.assert_array_equal(speech_by_energy(power, 0.032), expected)
    # Without pauses, what lies less than 20 dB below loud speech is speech.
    assert speech_by_energy(_power((-20, 50), (-39, 50)), 0.032).all()
    assert speech_by_energy(_power((-20, 50)), 0.032).all()
    # Below -70 dB there is nothing.
    assert not speech_by_energy(_power((-71, 50), (-200, 50)), 0.032).any()


def test_short_pauses_and_bursts_are_none() -> None:
    power = _power((-20, 20), (-90, 2), (-20, 20), (-90, 30), (-20, 2), (-90, 30))
    expected = np.repeat([True, False], [42, 62])
    np.testing.assert_array_equal(speech_by_energy(power, 0.032), expected)


def test_one_knock_does_not_silence_the_rest() -> None:
    power = _power((-40, 100), (-90, 20), (0, 1), (-90, 20), (-40, 100))
    speech = speech_by_energy(power, 0.032)
    assert speech[:100].all()
    assert speech[-100:].all()
    assert not speech[102:118].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sr", [16_000, 8_000, 22_050])
def test_digital_silence_is_no_speech(method: str, sr: int) -> None:
    assert _shares(np.zeros(5 * sr, np.float32), method, sr=sr) == [0] * 10


@pytest.mark.parametrize("method", METHODS)
def test_real_speech_is_speech_and_padding_is_none(nemo: Location, method: str) -> None:
    y = _read(nemo, "9_train")[: 20 * SR]
    rng = np.random.default_rng(1)
    room = (1e-4 * rng.standard_normal(5 * SR)).astype(np.float32)
    padded = np.concatenate([np.zeros(5 * SR, np.float32), y, room])
    shares = np.array(_shares(padded, method))
    # Half a step beside the speech may hold its first and last sound.
    assert (shares[:9] < 0.1).all()
    assert (shares[51:] < 0.1).all()
    assert np.mean(shares[10:50] >= 0.1) > 0.85
    assert shares[10:50].mean() > 0.6


@pytest.mark.parametrize("method", METHODS)
def test_the_blocks_make_no_difference(nemo: Location, method: str) -> None:
    y = _read(nemo, "8_train")[: 21 * SR + 77]
    expected = _shares(y, method, block=len(y))
    assert len(set(expected)) > 5
    for block in (977, 8192, 300_000):
        assert _shares(y, method, block=block) == expected


@needs_silero
def test_the_network_hears_what_its_own_package_hears(nemo: Location) -> None:
    """The package itself is the oracle; it is imported in a process of its own for its threads."""
    file = _file(nemo, "9_devel")
    code = (
        "import sys, json, soundfile, torch\n"
        "from silero_vad import load_silero_vad\n"
        "y, sr = soundfile.read(sys.argv[1], dtype='float32', stop=320_000)\n"
        "model = load_silero_vad(onnx=False)\n"
        "found = model.audio_forward(torch.from_numpy(y)[None], sr=sr)[0]\n"
        "print(json.dumps((found >= 0.5).tolist()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    expected = json.loads(done.stdout)
    y = _read(nemo, "9_devel")[:320_000]
    frames = silero.SileroFrames(SR)
    frames.add(y)
    found, seconds = frames.finish()
    assert seconds == 0.032
    assert len(found) == len(expected) == 625
    # The same network in another form: a probability beside one half may fall on its other side.
    assert np.sum(found != np.array(expected)) <= 2
    assert 0.5 < found.mean() < 1


@needs_silero
def test_noise_and_tones_are_no_speech_to_the_network() -> None:
    rng = np.random.default_rng(2)
    noise = (0.1 * rng.standard_normal(5 * SR)).astype(np.float32)
    tone = (0.3 * np.sin(2 * np.pi * 440 * np.arange(5 * SR) / SR)).astype(np.float32)
    assert max(_shares(noise, "silero")) < 0.1
    assert max(_shares(tone, "silero")) < 0.1
    # Energy cannot tell them from speech, which the documentation says.
    assert min(_shares(noise, "energy")) == 1


@needs_silero
def test_finding_speech_does_not_import_the_package() -> None:
    _shares(np.zeros(SR, np.float32), "silero")
    assert "silero_vad" not in sys.modules


def test_the_method_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "version", lambda: "6.2.3")
    assert speech_method("auto") == speech_method("silero") == "silero-vad 6.2.3"
    assert speech_method("silero-vad 6.2.3") == "silero-vad 6.2.3"
    assert speech_method("energy") == "energy"
    with pytest.raises(UsageError, match=r"by 'silero-vad 6\.2\.4', and this machine has 'silero-"):
        speech_method("silero-vad 6.2.4")


def test_without_the_network_it_is_energy_or_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "version", lambda: None)
    assert speech_method("auto") == speech_method("energy") == "energy"
    with pytest.raises(UsageError, match=r"not installed\. Expected .* onnxruntime\. To have them"):
        speech_method("silero")
    with pytest.raises(UsageError, match="this machine has 'energy'"):
        SpeechDetector("silero-vad 6.2.3", sr=SR)


@pytest.mark.parametrize("missing", ["onnxruntime", "silero_vad"])
def test_one_package_alone_will_not_do(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    found = silero.find_spec
    monkeypatch.setattr(silero, "find_spec", lambda name: None if name == missing else found(name))
    assert silero.version() is None


@needs_silero
def test_damaged_weights_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "weights.onnx").write_bytes(b"no network")
    monkeypatch.setattr(silero, "_weights", lambda: tmp_path / "weights.onnx")
    with pytest.raises(ModelError, match=r"weights\.onnx' cannot be loaded.*Install it again"):
        SpeechDetector("silero", sr=SR)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match=r"least share of speech was given as .* Expected"):
        SpeechSettings(least_share=share)
