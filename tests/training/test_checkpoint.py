"""States and models survive what happens to files, and nothing in them is run."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from valence.audio.standardization import Standardizer
from valence.config import Config
from valence.errors import ConfigError, ModelError, TrainingError
from valence.model.network import ValenceModel
from valence.model.serialization import export_model, load_model, read_description
from valence.provenance import fingerprint
from valence.storage.location import Location
from valence.training.checkpoint import (
    TrainingState,
    load_state,
    random_state,
    read_progress,
    require_size,
    save_state,
    set_random_state,
    state_bytes,
)

_CONFIG = Config.resolve(
    Config(),
    assignments=["mel.n_mels=16", "model.channels=[3, 4]", "model.lstm_hidden=5"],
)
_CPU = torch.device("cpu")
_STANDARDIZER = Standardizer(
    "mel_band", np.linspace(-40, -20, 16, dtype=np.float32), np.full(16, 17.5, np.float32)
)


def _model(seed: int = 0) -> ValenceModel:
    torch.manual_seed(seed)
    return ValenceModel(_CONFIG.model, n_mels=16, n_frames=34, standardizer=_STANDARDIZER)


def _state(epoch: int = 1) -> TrainingState:
    model = _model(epoch)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    model(torch.randn(2, 3, 16, 34)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=7)
    return TrainingState(
        made_of={"train": {"epochs": 7}},
        standardizer=_STANDARDIZER.to_json(),
        seed_index=0,
        epoch=epoch,
        model=model.state_dict(),
        optimizer=optimizer.state_dict(),
        scheduler=scheduler.state_dict(),
        best_ccc=0.25,
        best_epoch=1,
        bad_epochs=0,
        best=model.state_dict(),
        best_record={"seed": 0, "epoch": 1, "validation_ccc": 0.25},
        history=[{"seed": 0, "epoch": 1, "train_loss": 0.5}],
        random=[random_state(_CPU)],
        threads=1,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Location:
    return Location.parse(tmp_path / "train")


def _save(folder: Location, epoch: int) -> None:
    save_state(folder, _state(epoch), progress={"told": epoch})


def _local(folder: Location, name: str) -> Path:
    assert folder.local is not None
    return folder.local / name


def test_a_state_comes_back_as_it_was(folder: Location) -> None:
    assert load_state(folder) == (None, ())
    assert read_progress(folder) is None
    state = _state()
    save_state(folder, state, progress={"told": "something"})
    again, remarks = load_state(folder)
    assert again is not None
    assert remarks == ()
    assert read_progress(folder) == {"told": "something"}
    for name in ("model", "best"):
        for key, value in getattr(state, name).items():
            assert torch.equal(getattr(again, name)[key], value)
    for key in ("exp_avg", "exp_avg_sq", "step"):
        for number, values in state.optimizer["state"].items():
            assert torch.equal(again.optimizer["state"][number][key], values[key])
    for name in ("made_of", "standardizer", "epoch", "scheduler", "best_ccc", "history"):
        assert getattr(again, name) == getattr(state, name)


def test_generators_go_on_where_they_were() -> None:
    state = random_state(_CPU)

    def draw() -> tuple[float, float, float]:
        legacy = float(np.random.random())  # noqa: NPY002
        return random.random(), legacy, float(torch.rand(()))

    first = draw()
    assert draw() != first
    set_random_state(state, _CPU)
    assert draw() == first


def test_a_gpu_that_is_not_trained_on_is_not_touched() -> None:
    touched = torch.cuda.is_initialized()
    state = random_state(_CPU)
    assert state["cuda"] is None
    # Of another device: nothing here could take it, and nothing is asked to.
    set_random_state({**state, "cuda": torch.arange(16, dtype=torch.uint8)}, _CPU)
    assert torch.cuda.is_initialized() == touched


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_generator_of_a_gpu_goes_on_where_it_was() -> None:
    device = torch.device("cuda", 0)
    state = random_state(device)
    first = torch.rand(3, device=device)
    assert not torch.equal(torch.rand(3, device=device), first)
    set_random_state(state, device)
    assert torch.equal(torch.rand(3, device=device), first)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_the_state_before_a_damaged_one_serves(folder: Location, damage: str) -> None:
    for epoch in (1, 2, 3):
        _save(folder, epoch)
    newest = _local(folder, "state.pt")
    data = newest.read_bytes()
    match damage:
        case "truncate":
            newest.write_bytes(data[: len(data) // 2])
        case "flip":
            middle = len(data) // 2
            newest.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        case "remove":
            newest.unlink()
        case _:
            newest.write_bytes(b"")
    state, remarks = load_state(folder)
    assert state is not None
    assert state.epoch == 2
    assert len(remarks) == (0 if damage == "remove" else 1)
    assert all("state.pt" in remark for remark in remarks)
    _save(folder, 3)
    state, remarks = load_state(folder)
    assert state is not None
    assert (state.epoch, remarks) == (3, ())
    # The good one was not put away for the damaged one.
    newest.unlink()
    state, remarks = load_state(folder)
    assert state is not None
    assert (state.epoch, remarks) == (2, ())


@pytest.mark.parametrize("index", ["removed", "truncated", "two epochs older"])
def test_states_are_whole_without_their_index(folder: Location, index: str) -> None:
    """As when a folder is copied while it is written."""
    _save(folder, 1)
    file = _local(folder, "state.json")
    before = file.read_bytes()
    for epoch in (2, 3):
        _save(folder, epoch)
    match index:
        case "removed":
            file.unlink()
        case "truncated":
            file.write_bytes(before[:20])
        case _:
            file.write_bytes(before)
    for epoch, name in ((3, "state.pt"), (2, "state.previous.pt")):
        state, remarks = load_state(folder)
        assert state is not None
        assert (state.epoch, remarks) == (epoch, ())
        _local(folder, name).unlink()


def test_a_state_that_was_written_and_not_yet_in_place_serves(folder: Location) -> None:
    _save(folder, 1)
    _save(folder, 2)
    _local(folder, "state.pt").rename(_local(folder, "state.next.pt"))
    state, remarks = load_state(folder)
    assert state is not None
    assert (state.epoch, remarks) == (2, ())
    _local(folder, "state.previous.pt").rename(_local(folder, "state.pt"))
    state, remarks = load_state(folder)
    assert state is not None
    assert (state.epoch, remarks) == (2, ())


def test_no_whole_state_is_an_error(folder: Location) -> None:
    _save(folder, 1)
    _local(folder, "state.pt").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"No training state .* --overwrite"):
        load_state(folder)


def test_nothing_in_a_state_is_run(folder: Location, tmp_path: Path) -> None:
    """Not even where someone has made the digest agree."""
    _save(folder, 1)

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    for content in ({"format": 1, "made_of": Trap()}, Trap(), torch.zeros(2)):
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data = buffer.getvalue()
        _local(folder, "state.pt").write_bytes(data + hashlib.sha256(data).digest())
        with pytest.raises(ModelError, match="not a training state") as caught:
            load_state(folder)
        # torch's own words would tell how to run it.
        assert "weights_only" not in str(caught.value)
        assert "'valence train' with --overwrite" in str(caught.value)
        assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(Trap()))
    assert (tmp_path / "sprung").exists()


def test_a_state_of_another_format_is_an_error(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("valence.training.checkpoint.FORMAT", 99)
        _save(folder, 1)
    with pytest.raises(ModelError, match="format 99"):
        load_state(folder)


_FILL = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_checkpoint import _save
from valence.storage.location import Location
folder = Location.parse({folder!r})
_save(folder, 1)
size = (folder / "state.pt").info().size
# A file may not grow beyond this: writing fails as it does on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))
_save(folder, 2)
"""


def test_a_disk_that_is_full_keeps_the_last_state(folder: Location) -> None:
    code = _FILL.format(tests=str(Path(__file__).parent), folder=str(folder))
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "TrainingError: The state of the training could not be written" in ran.stderr
    state, remarks = load_state(folder)
    assert state is not None
    assert (state.epoch, remarks) == (1, ())
    assert sorted(file.name for file in folder.files()) == ["state.json", "state.pt"]


@pytest.fixture
def exported(tmp_path: Path) -> Location:
    model_folder = Location.parse(tmp_path / "model")
    export_model(model_folder, _model(), _CONFIG, {"seed": 3, "subjects": {"train": ["a"]}})
    return model_folder


def test_an_exported_model_comes_back(exported: Location) -> None:
    model, description = load_model(exported)
    assert not model.training
    mel = torch.randn(2, 6, 16, 34) * 20 - 30
    with torch.inference_mode():
        torch.testing.assert_close(model(mel), _model().eval()(mel), rtol=0, atol=0)
    assert description.record["seed"] == 3
    assert "torch" in description.record["versions"]
    assert description.config.mel == _CONFIG.mel
    assert description.config.model == _CONFIG.model
    assert read_description(exported).sha256 == description.sha256
    assert model.standardizer.to_json() == _STANDARDIZER.to_json()


def test_an_exported_model_has_a_card_before_there_is_a_report(tmp_path: Path) -> None:
    record = {
        "corpus": f"{tmp_path}/voices",
        "synthetic": False,
        "subjects": {"train": ["a", "b"], "test": ["c"]},
        "recordings": {"train": ["a_1", "a_2", "b"]},
        "validation_ccc": 0.25,
        "seed": 3,
        "epoch": 7,
        "licence": "only for research",
    }
    export_model(Location.parse(tmp_path / "model"), _model(), _CONFIG, record)
    card = (tmp_path / "model" / "README.md").read_text()
    for output in (
        "Corpus: voices; split protocol `auto`",
        "train: 3 recordings, 2 subjects.",
        "test: 1 subject.",
        "validation CCC of 0.250 (seed 3, epoch 7)",
        "it has not been tested",
        "only for research",
        "Not meant for",
        "average over 20 s",
        "library_name: valence-speech",
    ):
        assert output in card
    assert str(tmp_path) not in card


def test_exporting_again_gives_the_same_bytes(exported: Location) -> None:
    before = _local(exported, "model.safetensors").read_bytes()
    export_model(exported, _model(), _CONFIG, {})
    assert _local(exported, "model.safetensors").read_bytes() == before


def _edit(exported: Location, **changes: object) -> None:
    file = _local(exported, "model.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("no weights", "cannot be read"),
        ("no description", "cannot be read"),
        ("truncated weights", "damaged"),
        ("truncated description", "damaged"),
        ("edited description", "damaged"),
        ("weights of another", "belongs to another"),
        ("not a dictionary", "damaged"),
        ("no folder", "cannot be read"),
    ],
)
def test_a_damaged_model_is_an_error(exported: Location, damage: str, says: str) -> None:
    weights, description = (_local(exported, name) for name in ("model.safetensors", "model.json"))
    match damage:
        case "no weights":
            weights.unlink()
        case "no description":
            description.unlink()
        case "truncated weights":
            weights.write_bytes(weights.read_bytes()[:-1])
        case "truncated description":
            description.write_text(description.read_text()[:-30])
        case "edited description":
            _edit(exported, record={"seed": 4})
        case "weights of another":
            other = Location.parse(f"{exported}-other")
            export_model(other, _model(seed=1), _CONFIG, {})
            _local(other, "model.safetensors").rename(weights)
        case "not a dictionary":
            description.write_text("[]")
        case _:
            exported.delete()
    with pytest.raises(ModelError, match=says):
        load_model(exported)


def _forge(exported: Location, **changes: dict[str, object]) -> None:
    """Change sections of the configuration in a description, whose digest is then right again."""
    file = _local(exported, "model.json")
    content = json.loads(file.read_text())
    del content["digest"]
    for section, values in changes.items():
        part = content if section in content else content["config"]
        part[section] = {**part[section], **values}
    file.write_text(json.dumps({**content, "digest": fingerprint(content)}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": {"lstm_hidden": 10**7}}, "lstm_hidden"),
        ({"model": {"lstm_hidden": 4096, "lstm_layers": 16}}, "should be"),
        ({"model": {"channels": [1024] * 4}}, "should be"),
        ({"model": {"channels": [0]}}, "channels"),
        ({"model": {"targets": ["joy"]}}, "targets"),
        ({"preprocess": {"sr": 10**12}}, "sr"),
        ({"preprocess": {"segment_seconds": 1e9}}, "segment_seconds"),
        ({"preprocess": {"segment_seconds": 0.6}}, "covers 8448 samples"),
        ({"mel": {"n_mels": 1}}, "halve the mel"),
        ({"mel": {"n_mels": 32}}, "16 means for 32 mel bands"),
        ({"mel": {"n_fft": 2**40}}, "n_fft"),
        ({"sequence": {"length": 10**9}}, "length"),
        ({"standardizer": {"std": [0.0] * 16}}, "positive standard deviations"),
        ({"standardizer": {"mean": "a"}}, "standardisation found is not one"),
    ],
    ids=str,
)
def test_a_model_that_asks_for_what_it_does_not_hold_is_refused(
    exported: Location, changes: dict[str, dict[str, object]], says: str
) -> None:
    _forge(exported, **changes)
    with pytest.raises(ModelError, match=says):
        load_model(exported)


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff", b"null", b'{"digest": 1}'])
def test_what_is_no_description_is_refused(exported: Location, content: bytes) -> None:
    _local(exported, "model.json").write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        load_model(exported)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("output.bias"), r"output.bias is absent and should be \[1\]"),
        (lambda tensors: tensors.update(more=torch.zeros(2)), "more is .* should be absent"),
        (lambda tensors: tensors["output.bias"].fill_(torch.nan), "not finite"),
        (lambda tensors: tensors.update({"output.bias": torch.zeros(1, dtype=torch.int8)}), "int8"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    exported: Location, change: Callable[[dict[str, torch.Tensor]], object], says: str
) -> None:
    file = _local(exported, "model.safetensors")
    tensors = safetensors.torch.load(file.read_bytes())
    change(tensors)
    data = safetensors.torch.save(tensors)
    file.write_bytes(data)
    content = json.loads(_local(exported, "model.json").read_text())
    del content["digest"]
    content["sha256"] = hashlib.sha256(data).hexdigest()
    content["digest"] = fingerprint(content)
    _local(exported, "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=says):
        load_model(exported)


def test_a_model_of_another_format_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("valence.model.serialization.FORMAT", 99)
        export_model(Location.parse(tmp_path), _model(), _CONFIG, {})
    with pytest.raises(ModelError, match="format 99"):
        load_model(Location.parse(tmp_path))


def test_a_model_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="could not be written"):
        export_model(Location.parse(tmp_path / "file" / "model"), _model(), _CONFIG, {})


def test_a_state_says_what_it_is_of(folder: Location) -> None:
    save_state(folder, replace(_state(), epoch=5), progress={})
    index = json.loads(_local(folder, "state.json").read_text())
    assert (index["seed_index"], index["epoch"]) == (0, 5)
    assert index["made_of"] == {"train": {"epochs": 7}}


def _put_state(folder: Location, content: object) -> None:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    _local(folder, "state.pt").write_bytes(data + hashlib.sha256(data).digest())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epoch": "1"}, "'epoch' is a text"),
        ({"history": {}}, "'history' is an object"),
        ({"history": [{"seed": 0}]}, "'epoch' is missing"),
        ({"best_record": {}}, "'seed' is missing"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
    ids=str,
)
def test_a_state_of_another_shape_is_refused(
    folder: Location, change: dict[str, object], says: str
) -> None:
    _save(folder, 1)
    state = _state()
    _put_state(folder, {"format": 1, **state.__dict__, **change})
    with pytest.raises(ModelError, match=f"not a training state: .*{says}"):
        load_state(folder)


def test_a_state_beyond_its_size_is_not_read(folder: Location) -> None:
    _save(folder, 1)
    _save(folder, 2)
    with _local(folder, "state.pt").open("ab") as file:
        # Sparse: it takes no room.
        file.truncate(2**40)
    state, remarks = load_state(folder, most=state_bytes(_CONFIG))
    assert state is not None
    assert state.epoch == 1
    assert "1,099,511,627,776 bytes" in remarks[0]


def test_a_state_that_unpacks_to_more_than_it_is_is_refused(folder: Location) -> None:
    _save(folder, 1)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100_000))
    data = buffer.getvalue()
    _local(folder, "state.pt").write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(ModelError, match="unpacks to 100,000 bytes"):
        load_state(folder)


def test_a_folder_in_place_of_a_state_is_named(folder: Location) -> None:
    _save(folder, 1)
    _local(folder, "state.pt").unlink()
    _local(folder, "state.pt").mkdir()
    with pytest.raises(ModelError, match=r"state\.pt' is a folder.*Move it away"):
        load_state(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"progress": [1]}', b"\xff", b"[" * 100_000])
def test_progress_that_is_damaged_says_nothing(folder: Location, content: bytes) -> None:
    _save(folder, 1)
    _local(folder, "state.json").write_bytes(content)
    assert read_progress(folder) is None


def test_files_of_a_model_are_refused_by_size_before_they_are_read(exported: Location) -> None:
    for name in ("model.safetensors", "model.json"):
        file = _local(exported, name)
        size = file.stat().st_size
        with file.open("ab") as opened:
            opened.truncate(2**40)
        with pytest.raises(ModelError, match=f"{name}' is damaged: it has 1,099,511,627,776 bytes"):
            load_model(exported)
        with file.open("ab") as opened:
            opened.truncate(size)
    load_model(exported)


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_what_is_no_file_ends_at_once(exported: Location, name: str) -> None:
    file = _local(exported, name)
    for make, says in ((file.mkdir, "is a folder"), (lambda: os.mkfifo(file), "no regular file")):
        file.rmdir() if file.is_dir() else file.unlink()
        make()
        with pytest.raises(ModelError, match=f"{name}' .*{says}"):
            load_model(exported)


def test_a_model_too_large_to_be_loaded_is_not_trained() -> None:
    require_size(_CONFIG)
    huge = ["model.lstm_hidden=4096", "model.lstm_layers=16"]
    with pytest.raises(ConfigError, match=r"asks for weights of .* Lower model\.lstm_hidden"):
        require_size(Config.resolve(_CONFIG, assignments=huge))
