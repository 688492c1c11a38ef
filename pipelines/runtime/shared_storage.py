"""Check that all nodes of a cluster see the same files."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import ray
from ray import ObjectRef
from ray.exceptions import RayError

from pipelines.runtime.nodes import NODE_ID, Node, living_nodes
from valence.errors import ClusterError
from valence.storage.location import Location

_ANSWER_SECONDS = 45.0
# Smaller files are read whole to check them; for larger files only the size is looked up.
_READ_BYTES = 2**16


@ray.remote(num_cpus=0, max_retries=1)
def _unseen(files: Sequence[tuple[Location, int]]) -> dict[str, str]:
    """Find the files that this node cannot see at the given size, each with the reason."""
    unseen = {}
    for file, size in files:
        try:
            with file.open() as source:
                found = len(source.read(size + 1)) if size < _READ_BYTES else file.info().size
        except OSError as error:
            unseen[str(file)] = f"{type(error).__name__}: {error}"
            continue
        if found != size:
            unseen[str(file)] = f"it has {found} bytes there and {size} here"
    return unseen


def require_shared(folder: Location, *, known: Sequence[Location] = ()) -> None:
    """Refuse a folder or files that this process sees but some living node does not.

    Parameters
    ----------
    folder
        Folder that the stage writes to; a small file is placed there during the check.
    known
        Files that the stage reads, one for each place to check.

    Raises
    ------
    ClusterError
        If a node does not see the files, does not answer, or cannot run this program.
    """
    nodes = living_nodes()
    if len(nodes) < 2:
        return
    probe = folder / f".seen-{uuid.uuid4().hex}"
    probe.write_text(probe.name)
    try:
        files = [(file, int(file.info().size)) for file in (probe, *known)]
        refs = {
            _unseen.options(label_selector={NODE_ID: node.id}).remote(files): node for node in nodes
        }
        done, late = ray.wait(list(refs), num_returns=len(refs), timeout=_ANSWER_SECONDS)
        # A list, because several nodes may share a host.
        answers = [(refs[ref].host, _answer(ref, refs[ref])) for ref in done]
    finally:
        probe.delete()
    if late:
        raise ClusterError(
            f"{len(late)} of {len(nodes)} nodes have not answered in {_ANSWER_SECONDS:g} s, the "
            f"first is {refs[late[0]].host}. Look at 'ray status' and at the network between the "
            "nodes."
        )
    blind = [(host, unseen) for host, unseen in answers if unseen]
    if blind:
        host, unseen = min(blind, key=lambda each: each[0])
        place, reason = next(iter(unseen.items()))
        raise ClusterError(
            f"'{place.removesuffix('/' + probe.name)}' is visible on this machine but not on "
            f"{len(blind)} of {len(nodes)} nodes ({host}: {reason}). Give a place that "
            "every node reaches: an object store such as s3://bucket/folder or gs://bucket/folder, "
            "or a folder on shared storage (NFS)."
        )


def _answer(ref: ObjectRef, node: Node) -> dict[str, str]:
    try:
        unseen: dict[str, str] = ray.get(ref)
    except RayError as error:
        if node.id not in {living.id for living in living_nodes()}:
            # The node has left meanwhile, and the work goes on without it.
            return {}
        raise ClusterError(
            f"The node {node.host} cannot run this program: {str(error).strip().splitlines()[-1]}. "
            "Expected the same Ray, Python and packages on every node: use one image, or 'ray job "
            "submit --working-dir .' (cluster/README.md)."
        ) from error
    return unseen
