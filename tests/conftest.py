"""Provide what tests share: a Ray session, a tiny corpus, a small configuration and real speech.

Only tests that need a GPU can see one, so that all others give the same result on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from valence.config import Config
from valence.storage.location import Location
from valence.sweep.features import Features

# Token authentication is tested on separate clusters; here it would only cost time.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "120")
# Threads that spin while they wait take the cores from tests in other processes. Passive waiting
# gives the same results.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# The time of an example depends on the load of the machine, so a deadline would test nothing.
settings.register_profile("valence", deadline=None)
settings.load_profile("valence")

_NEEDS_A_GPU = "needs a GPU"

_NEMO = Path(__file__).resolve().parents[2] / "shared" / "data" / "nemo"


def _needs_a_gpu(item: pytest.Item) -> bool:
    """Return whether a test is skipped on machines without a GPU."""
    return any(mark.kwargs.get("reason") == _NEEDS_A_GPU for mark in item.iter_markers("skipif"))


@contextmanager
def _no_gpu() -> Iterator[None]:
    """Hide all GPUs from this process and from processes that are started in the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        # This process counted its GPUs during the collection of tests; torch keeps that number.
        patch.setattr("torch.cuda.is_available", lambda: False)
        yield


def _has(item: pytest.Item, fixture: str) -> bool:
    """Return whether a test uses a fixture, directly or through other fixtures."""
    return fixture in getattr(item, "fixturenames", ())


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests that share a Ray: `make test` runs them in one process, others beside it."""
    if _has(item, "ray_local"):
        item.add_marker("ray")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests.

    Tests that need a GPU come first, because torch caches facts about devices. Tests that share a
    cluster come last, because the cluster runs until the end.
    """
    items.sort(key=lambda item: (not _needs_a_gpu(item), _has(item, "cluster")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Hide the GPUs from a test and its fixtures, unless the test needs one."""
    with nullcontext() if _needs_a_gpu(item) else _no_gpu():
        return (yield)


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    """Start one local Ray with four logical CPUs and no GPU for the whole session."""
    import ray

    # The first test that uses this fixture may be one that sees the GPU.
    with _no_gpu():
        ray.init(
            "local",
            num_cpus=4,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            # As the program's own Ray: beside other tests, Ray's default leaves a worker a
            # thirtieth of a core. And counters can be read after a second instead of ten.
            _system_config={"worker_niceness": 0, "metrics_report_interval_ms": 1000},
        )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def object_store() -> Iterator[str]:
    """Start an S3 server in this process and return its address; any credentials are accepted.

    The server has the bucket `shared`.
    """
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    endpoint = "{}:{}".format(*server.get_host_and_port())
    boto3.client(
        "s3",
        endpoint_url=f"http://{endpoint}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    ).create_bucket(Bucket="shared")
    yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Location:
    """Write a synthetic corpus of six subjects, 40 s each, in the MuSe layout."""
    from valence.corpus.synthetic import write_corpus

    folder = Location.parse(tmp_path_factory.mktemp("corpus"))
    write_corpus(folder, subjects=6, seconds=40.0, seed=1)
    return folder


@pytest.fixture(scope="session")
def tiny_config() -> Config:
    """Return a configuration with which every stage takes only seconds."""
    return Config.resolve(
        Config(),
        assignments=[
            "sequence.length=20",
            "sequence.stride=5",
            "model.channels=[2, 4, 8]",
            "model.lstm_hidden=16",
            "train.epochs=2",
            "train.batch_size=16",
            "sweep.bootstrap=50",
        ],
    )


@pytest.fixture(scope="session")
def nemo() -> Location:
    """Return a corpus of real speech in the MuSe layout, which is not part of the repository."""
    if not _NEMO.is_dir():
        pytest.skip(f"no corpus of real speech at {_NEMO}")
    return Location.parse(_NEMO)


@pytest.fixture(scope="session")
def make_features() -> Callable[..., Features]:
    """Return a function that makes sequences whose deep features are related to their labels.

    By default each split has two or more subjects.
    """
    import numpy as np

    from valence.sweep.features import concatenate

    def make(
        *,
        rows: tuple[int, int, int] = (240, 90, 70),
        subjects: tuple[int, int, int] = (4, 3, 2),
        columns: int = 36,
        seed: int = 0,
    ) -> Features:
        generator = np.random.default_rng(seed)
        mixing = 0.4 * generator.standard_normal((5, columns))
        parts, number = [], 0
        for split, total, people in zip(
            ("train", "validation", "test"), rows, subjects, strict=True
        ):
            for each in np.array_split(np.arange(total), people):
                n, number = len(each), number + 1
                walk = np.cumsum(generator.standard_normal((n, 5)), axis=0)
                latent = 0.8 * (walk - walk.mean(axis=0)) / walk.std(axis=0)
                latent += 0.4 * generator.standard_normal(5)
                label = 0.5 * np.tanh(latent[:, 0]) + 0.05 * generator.standard_normal(n)
                feature = np.tanh(latent @ mixing + 0.3 * generator.standard_normal((n, columns)))
                deep = 0.6 * label + 0.1 * generator.standard_normal(n)
                parts.append(
                    Features(
                        recording=np.array([f"r{number:02d}"] * n),
                        subject=np.array([f"s{number:02d}"] * n),
                        split=np.array([split] * n),
                        start=np.arange(n, dtype=np.int32),
                        target=label[:, None].astype(np.float32),
                        feature=feature.astype(np.float32),
                        prediction=deep[:, None].astype(np.float32),
                        targets=("valence",),
                    )
                )
        return concatenate(parts)

    return make


@pytest.fixture
def speech_by_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find speech by energy, whatever is installed: noise that a test makes then counts as it."""
    monkeypatch.setattr("valence.audio.silero.version", lambda: None)
