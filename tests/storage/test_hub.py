"""The Hugging Face hub, against a stand-in on this machine that answers as its API does."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.hub import Hub, serve_hub
from valence.config import Config
from valence.corpus.muse import read_corpus
from valence.corpus.synthetic import write_corpus
from valence.errors import ModelError, UsageError
from valence.storage.location import Location

huggingface_hub = pytest.importorskip("huggingface_hub")
hub_module = pytest.importorskip("valence.storage.hub")

_DIGITS = b"0123456789" * 1000


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    (root / "deep").mkdir()
    (root / "deep" / "a b.bin").write_bytes(_DIGITS)
    (root / "README.md").write_bytes(b"hello")
    return root


def _asks(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = functools.partial(huggingface_hub.HfFileSystem, endpoint=url, skip_instance_cache=True)
    monkeypatch.setattr(hub_module, "HfFileSystem", own)


@pytest.fixture
def hub(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub(models__user__model=repository) as served:
        _asks(served.url, monkeypatch)
        yield served


def test_a_repository_is_listed_and_read(hub: Hub) -> None:
    root = Location.parse("hf://user/model")
    assert root.is_folder()
    assert (root / "deep").is_folder()
    assert not (root / "absent").exists()
    assert [each.name for each in root.everything()] == ["README.md", "deep"]
    assert [each.name for each in (root / "deep").files()] == ["a b.bin"]
    assert {name: e.size for name, e in (root / "deep").listing().items()} == {"a b.bin": 10_000}
    file = root / "deep/a b.bin"
    assert file.read_bytes() == _DIGITS
    with file.open() as source:
        source.seek(9_995)
        assert source.read(10) == b"56789"
    with pytest.raises(FileNotFoundError):
        (root / "absent").open()
    # All of it was asked of the stand-in.
    assert "GET /api/models/user/model" in hub.requests


def test_an_address_comes_back_with_its_revision(hub: Hub) -> None:
    found = Location.parse("hf://user/model@v1.0/deep/a b.bin")
    assert found.uri == str(found) == "hf://user/model@v1.0/deep/a b.bin"
    assert Location.parse(found.uri) == found
    assert found.local is None
    assert pickle.loads(pickle.dumps(found)).read_bytes() == _DIGITS
    assert any("/resolve/v1.0/deep/" in asked for asked in hub.requests)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hf://user/other/file", "leads to no repository that can be read"),
        ("hf://datasets/user/model", "leads to no repository that can be read"),
        ("hf://user/model@v9/file", "names a revision that its repository does not have"),
        # Older clients ask the hub first.
        ("hf://us er/model/file", "is no address of the hub|leads to no repository"),
    ],
)
def test_a_repository_that_is_not_there_is_not_an_empty_folder(
    hub: Hub, text: str, words: str
) -> None:
    place = Location.parse(text)
    for look in (place.exists, place.everything, place.open):
        with pytest.raises(UsageError, match=words):
            look()


@pytest.mark.parametrize("text", ["hf://", "hf://user", "hf://datasets/user"])
def test_an_address_without_a_repository_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="it names no repository"):
        Location.parse(text)
    with pytest.raises(UsageError, match="it has a query"):
        Location.parse("hf://user/model?revision=main")


def test_a_hub_that_refuses_or_fails_is_an_error_in_words(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.status = 401
    with pytest.raises(UsageError, match="log in with 'hf auth login'"):
        Location.parse("hf://user/model/file").exists()
    hub.status = 500
    with pytest.raises(OSError, match=r"the hub answered .*500"):
        Location.parse("hf://user/model/file").exists()
    _asks("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(OSError, match="the hub does not answer"):
        Location.parse("hf://user/model/file").exists()


def test_the_hub_is_only_read(hub: Hub) -> None:
    place = Location.parse("hf://user/model/new.txt")
    for write in (lambda: place.write_bytes(b"1"), (place.parent / "README.md").delete):
        with pytest.raises(UsageError, match="the hub is only read here"):
            write()


def test_a_model_and_a_corpus_of_the_hub_are_used(
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.helpers.random_models import export_random
    from valence.prediction.predictor import Predictor

    folder = Location.parse(tmp_path / "run/model")
    export_random(folder, tiny_config)
    assert folder.local is not None
    corpus = Location.parse(tmp_path / "corpus")
    write_corpus(corpus, subjects=3, seconds=5.0)
    y = np.random.default_rng(0).standard_normal(16_000 * 12).astype(np.float32)
    with serve_hub(
        models__user__model=folder.local,
        models__user__run=tmp_path / "run",
        datasets__user__corpus=tmp_path / "corpus",
    ) as served:
        _asks(served.url, monkeypatch)
        expected = Predictor.load(folder)(y, sr=16_000).values
        for text in ("hf://user/model", "hf://user/run", "hf://user/run/model"):
            assert np.array_equal(Predictor.load(text)(y, sr=16_000).values, expected)
        with pytest.raises(ModelError, match="holds no model"):
            Predictor.load("hf://datasets/user/corpus")
        here, there = (
            read_corpus(root) for root in (corpus, Location.parse("hf://datasets/user/corpus"))
        )
        assert [r.id for r in there.recordings] == [r.id for r in here.recordings]
        name = "raw_data/audio/" + here.recordings[0].audio.name
        remote = Location.parse("hf://datasets/user/corpus") / name
        assert remote.read_bytes() == (corpus / name).read_bytes()
