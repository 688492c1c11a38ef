"""A real Prometheus, configured as `cluster/monitoring` says, watches a job on a real head."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT, Cluster, free_port, wait_for
from valence.run import Run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus is installed"),
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def query(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], dict[str, float]]]:
    """A function that asks Prometheus, and gives the values by their only label."""
    folder = tmp_path_factory.mktemp("prometheus")
    text = (ROOT / "cluster/monitoring/prometheus.yml").read_text()
    # The page says so: where the head has a --temp-dir, the list of nodes lies there.
    text = text.replace("/tmp/ray/", f"{cluster.folder}/ray/").replace("10s", "1s")
    (folder / "prometheus.yml").write_text(text)
    port = free_port()
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )

    def ask(expression: str) -> dict[str, float]:
        address = f"http://127.0.0.1:{port}/api/v1/query?"
        with urllib.request.urlopen(
            address + urllib.parse.urlencode({"query": expression}), timeout=10
        ) as answer:
            found = json.load(answer)["data"]["result"]
        return {"".join(row["metric"].values()): float(row["value"][1]) for row in found}

    def is_up() -> bool:
        try:
            return len(ask("up == 1")) >= 2
        except OSError:
            return False

    try:
        wait_for(is_up, "Prometheus to read from both nodes")
        yield ask
    finally:
        server.terminate()
        server.wait(20)


def test_the_series_agree_with_the_jobs_own_summary(
    cluster: Cluster,
    shared: Callable[[str], str],
    query: Callable[[str], dict[str, float]],
    tmp_path: Path,
) -> None:
    recordings = 'sum by (status) (ray_valence_recordings_total{stage="preprocess"})'
    audio = 'sum by (stage) (ray_valence_audio_seconds_total{stage="preprocess"})'
    steps = 'sum by (step) (ray_valence_step_seconds_total{stage="preprocess"})'
    before = query(recordings), query(audio), query(steps)
    target = shared("watched")
    status, told = cluster.submit("preprocess", shared("corpus"), "--out", target, job="watched")
    assert status == 0, told
    run = Run.at(target.replace("s3://", "s3://key:secret@"))
    summary = run.stage("segments").require()["summary"]

    def grown(expression: str, since: dict[str, float]) -> dict[str, float]:
        return {
            key: value - since.get(key, 0.0)
            for key, value in query(expression).items()
            if value > since.get(key, 0.0)
        }

    wait_for(lambda: grown(recordings, before[0]).get("ok") == 6, "the counters", seconds=30)
    assert grown(recordings, before[0]) == {"ok": summary["processed"]}
    assert grown(audio, before[1]) == {
        "preprocess": pytest.approx(3600 * summary["audio_hours"], abs=1e-6)
    }
    spent = grown(steps, before[2])
    assert spent.keys() == summary["step_seconds"].keys()
    for step, seconds in summary["step_seconds"].items():
        assert spent[step] == pytest.approx(seconds, abs=1e-6)
    # What Ray tells of the nodes, which the dashboard of `cluster/monitoring` shows beside it.
    wait_for(lambda: len(query("sum by (ip) (ray_node_mem_used)")) > 0, "the nodes' own series")
