"""Jobs on a real head, as `ray job submit` sends them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT, Cluster
from tests.helpers.processes import wait_for
from valence.config import Config
from valence.run import Run
from valence.segments.store import SegmentStore

pytestmark = [
    pytest.mark.ray,
    pytest.mark.cluster,
    # It is at work from the first test on.
    pytest.mark.usefixtures("silent"),
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]


_SILENT = """
import sys, time
from pipelines.runtime.session import ray_session
with ray_session(sys.argv[1]):
    import ray

    @ray.remote
    class Silent:
        def work(self):
            time.sleep(60)
            return "answered"

    print(ray.get(Silent.remote().work.remote()))
"""


@pytest.fixture(scope="module")
def silent(cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """A driver that waits a minute for its worker's answer, while other tests go on."""
    driver = subprocess.Popen(
        [sys.executable, "-c", _SILENT, cluster.gcs],
        env=cluster.environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield driver
    driver.kill()
    driver.communicate()


def _settings(config: Config) -> list[str]:
    wanted = {
        "sequence": {"length": 20, "stride": 5},
        "model": {"channels": [2, 4, 8], "lstm_hidden": 16},
        "train": {"epochs": 2, "batch_size": 16},
        "sweep": {"bootstrap": 50},
    }
    output = []
    for section, keys in wanted.items():
        for key, value in keys.items():
            assert getattr(getattr(config, section), key) == (
                tuple(value) if isinstance(value, list) else value
            )
            output += ["--set", f"{section}.{key}={value}"]
    return output


def _run(address: str) -> Run:
    return Run.at(address.replace("s3://", "s3://key:secret@"))


def test_a_job_runs_all_stages_and_a_stopped_one_resumes(
    cluster: Cluster, shared: Callable[[str], str], tiny_config: Config
) -> None:
    settings = _settings(tiny_config)
    corpus, target = shared("corpus"), shared("run")
    arguments = ["run", corpus, "--out", target, *settings]
    status, output = cluster.submit(*arguments, job="first", wait=False)
    assert status == 0, output
    run = _run(target)
    segments = run.folder("segments")
    wait_for(lambda: (segments / "stage.json").exists(), "the first stage", seconds=120)
    wait_for(lambda: run.folder("train").files() != [], "the training", seconds=120)
    cluster.job("stop", "first")
    wait_for(lambda: "was stopped" in cluster.job("status", "first"), "the stop")
    assert not (run.root / "report/report.html").exists()
    before = {file.name: file.info().mtime_ns for file in segments.files()}
    status, output = cluster.submit(*arguments, job="second")
    assert status == 0, output
    assert "preprocess: nothing to do, 6 recordings are in" in output
    assert re.search(r"train: \d/2 seed 0 epoch", output)
    assert "report: s3://shared/run" in output
    after = {file.name: file.info().mtime_ns for file in segments.files()}
    assert {name for name in before if before[name] != after[name]} == set()
    for name in ("report/report.html", "report/metrics.json", "sweep/results.csv"):
        assert (run.root / name).exists()
    frame = SegmentStore(segments).recordings()
    assert len(frame) == 6
    assert (frame["status"] == "ok").all()


def test_a_job_that_fails_says_so(cluster: Cluster, shared: Callable[[str], str]) -> None:
    status, output = cluster.submit("check", shared("nothing/here"), job="wrong")
    assert status == 1
    assert "valence: " in output
    assert "failed" in cluster.job("status", "wrong")


def test_no_secret_in_what_is_left(cluster: Cluster, shared: Callable[[str], str]) -> None:
    cluster.submit("check", shared("corpus"), job="checked")
    token = cluster.token.read_text()
    for file in cluster.folder.rglob("*"):
        if file.is_file() and file != cluster.token:
            content = file.read_bytes()
            assert token.encode() not in content, file
            assert b"AWS_SECRET_ACCESS_KEY=secret" not in content, file


def test_a_wrong_token_is_told_within_a_minute(
    cluster: Cluster, shared: Callable[[str], str], tmp_path: Path
) -> None:
    wrong = tmp_path / "token"
    wrong.write_text("0" * 64)
    mine = cluster.environment | {"RAY_AUTH_TOKEN_PATH": str(wrong)}
    ran = Cluster(cluster.folder, wrong, mine, cluster.gcs, cluster.dashboard).run(
        "python", "-m", "pipelines", "preprocess", shared("corpus"), "--out", shared("no"),
        "--address", cluster.gcs, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "does not take this program's token" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_the_dashboard_is_no_head(cluster: Cluster, shared: Callable[[str], str]) -> None:
    ran = cluster.run(
        "python", "-m", "pipelines", "preprocess", shared("corpus"), "--out", shared("no"),
        "--address", cluster.dashboard.removeprefix("http://"), timeout=90,
    )  # fmt: skip
    assert ran.returncode == 1
    assert "is no head of a Ray cluster" in ran.stderr


def test_another_version_is_told(cluster: Cluster, shared: Callable[[str], str]) -> None:
    script = (
        "import json, sys\n"
        "from ray._raylet import GcsClient\n"
        "from ray._private import ray_constants\n"
        "from ray._common.usage import usage_constants\n"
        "client = GcsClient(address=sys.argv[1])\n"
        "key, space = usage_constants.CLUSTER_METADATA_KEY, ray_constants.KV_NAMESPACE_CLUSTER\n"
        "known = json.loads(client.internal_kv_get(key, namespace=space))\n"
        "known['ray_version'] = sys.argv[2] or known['ray_version']\n"
        "print(known['ray_version'])\n"
        "client.internal_kv_put(key, json.dumps(known).encode(), True, space)\n"
    )
    own = cluster.run("python", "-c", script, cluster.gcs, "").stdout.strip()
    assert cluster.run("python", "-c", script, cluster.gcs, "2.1.0").returncode == 0
    try:
        ran = cluster.run(
            "python", "-m", "pipelines", "preprocess", shared("corpus"), "--out", shared("no"),
            "--address", cluster.gcs, timeout=60,
        )  # fmt: skip
    finally:
        assert cluster.run("python", "-c", script, cluster.gcs, own).returncode == 0
    assert ran.returncode == 1
    assert "runs Ray 2.1.0 and Python" in ran.stderr
    assert "Expected the same on both" in ran.stderr


def test_a_worker_may_be_silent_for_longer_than_pings_are_taken(
    silent: subprocess.Popen[str],
) -> None:
    """As a training is: nodes hang up on a driver that pings more often than they were told."""
    out, err = silent.communicate(timeout=120)
    assert out.split() == ["answered"], err
