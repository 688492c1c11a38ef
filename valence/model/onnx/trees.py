"""Add ensembles of trees to a graph: boosted by XGBoost, or forests of scikit-learn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from valence.errors import UsageError
from valence.model.onnx.graph import TREES, Graph

# Objectives whose prediction is the sum itself.
_PLAIN = frozenset(
    {
        *("reg:squarederror", "reg:absoluteerror", "reg:pseudohubererror", "reg:quantileerror"),
        "reg:linear",
    }
)


@dataclass(frozen=True, eq=False)
class _Tree:
    """A binary tree; all arrays are `[nodes]`, and node 0 is the root.

    Attributes
    ----------
    left, right
        Children, -1 at a leaf. The left one is taken where the comparison holds.
    feature
        Column that is compared.
    threshold
        float32 that it is compared with.
    value
        float32 that a leaf adds.
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    value: NDArray[np.float32]


def boosted(regressor: Any) -> Callable[[Graph, str], str]:
    """Return what adds the prediction of an XGBRegressor, float64 `[rows, 1]`.

    Raises
    ------
    UsageError
        If it is no sum of trees.
    """
    learner = json.loads(bytes(regressor.get_booster().save_raw("json")))["learner"]
    booster, objective = learner["gradient_booster"], learner["objective"]["name"]
    if booster["name"] != "gbtree" or objective not in _PLAIN:
        raise UsageError(
            f"The sweep's best combination has an XGBRegressor with the booster "
            f"'{booster['name']}' and the objective '{objective}'. Expected 'gbtree' and an "
            "objective such as 'reg:squarederror'. Export the deep model, without --regressor."
        )
    (base,) = np.ravel(json.loads(learner["learner_model_param"]["base_score"]))
    trees = [
        _Tree(
            np.array(each["left_children"], np.int64),
            np.array(each["right_children"], np.int64),
            np.array(each["split_indices"], np.int64),
            np.array(each["split_conditions"], np.float32),
            # A leaf holds its value where another node holds what it compares with.
            np.array(each["split_conditions"], np.float32),
        )
        for each in booster["model"]["trees"]
    ]
    return lambda graph, x: _add(graph, x, trees, holds="BRANCH_LT", joined="SUM", base=float(base))


def forest(regressor: Any) -> Callable[[Graph, str], str]:
    """Return what adds the prediction of a forest of scikit-learn, float64 `[rows, 1]`."""
    trees = [
        _Tree(
            tree.children_left.astype(np.int64),
            tree.children_right.astype(np.int64),
            tree.feature.astype(np.int64),
            _rounded_down(tree.threshold),
            tree.value[:, 0, 0].astype(np.float32),
        )
        for tree in (each.tree_ for each in regressor.estimators_)
    ]
    return lambda graph, x: _add(graph, x, trees, holds="BRANCH_LEQ", joined="AVERAGE", base=0.0)


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round to the next float32 below: float32 columns then compare as with the float64 values."""
    nearest = threshold.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest > threshold, below, nearest)


def _add(
    graph: Graph,
    x: str,
    trees: Iterable[_Tree],
    *,
    holds: Literal["BRANCH_LT", "BRANCH_LEQ"],
    joined: Literal["SUM", "AVERAGE"],
    base: float,
) -> str:
    """Add the joined values of trees, with `base` added.

    The columns are compared as float32, as both libraries do.
    """
    every = list(trees)
    sizes = [len(tree.left) for tree in every]
    tree = np.repeat(np.arange(len(every)), sizes)
    node = np.concatenate([np.arange(size) for size in sizes])
    left, right, feature, threshold, value = (
        np.concatenate([getattr(each, name) for each in every])
        for name in ("left", "right", "feature", "threshold", "value")
    )
    leaf = left < 0
    added = graph.add(
        "TreeEnsembleRegressor",
        graph.cast(x, "FLOAT"),
        domain=TREES,
        n_targets=1,
        aggregate_function=joined,
        base_values=[base],
        nodes_treeids=tree.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=np.where(leaf, 0, feature).tolist(),
        nodes_modes=np.where(leaf, "LEAF", holds).tolist(),
        nodes_values=np.where(leaf, np.float32(0), threshold).tolist(),
        nodes_truenodeids=np.where(leaf, 0, left).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, right).tolist(),
        target_treeids=tree[leaf].tolist(),
        target_nodeids=node[leaf].tolist(),
        target_ids=[0] * int(leaf.sum()),
        target_weights=value[leaf].tolist(),
    )
    return graph.cast(added, "DOUBLE")
