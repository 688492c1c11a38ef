"""A real Prometheus, configured as `cluster/monitoring` says, watches a job on a real head."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.conftest import ROOT, Cluster, free_port
from tests.helpers.processes import wait_for
from valence.run import Run

Series = tuple[dict[str, str], float]

pytestmark = [
    pytest.mark.ray,
    pytest.mark.cluster,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus is installed"),
    pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def query(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], list[Series]]]:
    """A function that asks Prometheus, and gives series with their values."""
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

    def ask(expression: str) -> list[Series]:
        address = f"http://127.0.0.1:{port}/api/v1/query?"
        with urllib.request.urlopen(
            address + urllib.parse.urlencode({"query": expression}), timeout=10
        ) as answer:
            found = json.load(answer)["data"]["result"]
        return [(row["metric"], float(row["value"][1])) for row in found]

    def is_up() -> bool:
        """Tell whether the counters of all nodes have come, those of earlier jobs among them."""
        try:
            read = {int(labels["instance"].rpartition(":")[2]) for labels, _ in ask("up == 1")}
        except OSError:
            return False
        return read >= set(cluster.metrics)

    try:
        wait_for(is_up, "Prometheus to read from both nodes")
        yield ask
    finally:
        server.terminate()
        server.wait(20)


def test_the_series_agree_with_the_jobs_own_summary(
    cluster: Cluster, shared: Callable[[str], str], query: Callable[[str], list[Series]]
) -> None:
    # A driver counts recordings and its workers count seconds, so each has series of its own.
    earlier = {labels["WorkerId"] for labels, _ in query('{__name__=~"ray_valence_.*_total"}')}

    def total(counter: str, label: str) -> dict[str, float]:
        """Sum a counter by a label, over the processes of this job."""
        sums: dict[str, float] = defaultdict(float)
        for labels, value in query(f'ray_valence_{counter}_total{{stage="preprocess"}}'):
            if labels["WorkerId"] not in earlier:
                sums[labels[label]] += value
        return dict(sums)

    target = shared("watched")
    status, log = cluster.submit("preprocess", shared("corpus"), "--out", target, job="watched")
    assert status == 0, log
    run = Run.at(target.replace("s3://", "s3://key:secret@"))
    summary = run.stage("segments").require()["summary"]
    wait_for(lambda: sum(total("recordings", "status").values()) >= 6, "the counters", seconds=30)
    assert total("recordings", "status") == {"ok": summary["processed"]}
    assert total("audio_seconds", "stage") == {
        "preprocess": pytest.approx(3600 * summary["audio_hours"], abs=1e-6)
    }
    spent = total("step_seconds", "step")
    for step, seconds in summary["step_seconds"].items():
        assert spent.get(step, 0.0) == pytest.approx(seconds, abs=1e-6)
    # What Ray tells of the nodes, which the dashboard of `cluster/monitoring` shows beside it.
    wait_for(lambda: len(query("ray_node_mem_used")) > 0, "the nodes' own series")
