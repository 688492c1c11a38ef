"""Which cluster a command is given, and what is said of an address that can be none."""

from __future__ import annotations

import pytest

from pipelines.runtime.addresses import cluster_address
from valence.errors import ClusterError


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize("value", ["", "  ", "local", " LOCAL\n"])
def test_none_is_named(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_address() is None
    assert cluster_address(value) is None
    monkeypatch.setenv("RAY_ADDRESS", value)
    assert cluster_address() is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("10.0.0.5:6379", "10.0.0.5", 6379),
        (" head.example.org:6379 ", "head.example.org", 6379),
        ("[fd00::5]:6379", "fd00::5", 6379),
        ("auto", None, 0),
    ],
)
def test_an_address(text: str, host: str | None, port: int) -> None:
    found = cluster_address(text)
    assert found is not None
    assert (found.text, found.host, found.port) == (text.strip(), host, port)


def test_the_option_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.6:6379")
    assert str(cluster_address("10.0.0.5:6379")) == "'10.0.0.5:6379' (--address)"
    assert str(cluster_address("")) == "'10.0.0.6:6379' (RAY_ADDRESS)"
    assert cluster_address("local") is None
    # "auto" within a job is the job's cluster.
    assert str(cluster_address("auto")) == "'10.0.0.6:6379' (RAY_ADDRESS)"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("10.0.0.5", "it has no port"),
        ("head", "it has no port"),
        ("head:", "its port is ''"),
        ("head:ray", "its port is 'ray'"),
        ("head:0", "no number from 1 to 65535"),
        ("head:65536", "no number from 1 to 65535"),
        ("head:-1", "its port is '-1'"),
        ("head:٦٣", "its port is"),
        ("::1", "an IPv6 address stands in brackets"),
        ("fd00::5:6379", "an IPv6 address stands in brackets"),
        (":6379", "it is no host"),
        ("a b:6379", "it is no host"),
        ("http://10.0.0.5:8265", "it is an address of the dashboard"),
        ("HTTPS://head", "it is an address of the dashboard"),
        ("ray://10.0.0.5:10001", "it is an address of Ray Client"),
        ("tcp://10.0.0.5:6379", "where '10.0.0.5:6379' alone may be meant"),
    ],
)
def test_no_address(text: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ClusterError, match="--address is ") as refused:
        cluster_address(text)
    for words in (f"'{text}'", why, "Expected host and port", "leave --address out"):
        assert words in str(refused.value)
    monkeypatch.setenv("RAY_ADDRESS", text)
    with pytest.raises(ClusterError, match=r"RAY_ADDRESS is .*unset RAY_ADDRESS"):
        cluster_address()
