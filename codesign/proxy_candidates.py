"""The ensembles of trees that a proxy may be made of, fitted with scikit-learn and kept as arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, RandomForestRegressor

from codesign.proxy_trees import Trees, pack_trees
from codesign.trial import FloatArray

FOREST, EXTRA, BOOSTING = "forest", "extra-trees", "boosting"
N_FOREST = 200
"""Trees of the random forest, otherwise with scikit-learn's defaults: the baseline that no choice may fall behind."""
N_EXTRA = 200
N_BOOSTED, BOOSTED_LEAVES, BOOSTED_RATE = 300, 64, 0.05

TreeFit = Callable[[FloatArray, FloatArray, int], Trees]
"""Takes columns (n, p), an output (n,) and a seed."""


def fit_forest(columns: FloatArray, output: FloatArray, seed: int) -> Trees:
    """A random forest."""
    model = RandomForestRegressor(N_FOREST, random_state=seed, n_jobs=1).fit(_single(columns), output)
    return _averaged(model)


def fit_extra(columns: FloatArray, output: FloatArray, seed: int) -> Trees:
    """Extremely randomised trees."""
    model = ExtraTreesRegressor(N_EXTRA, random_state=seed, n_jobs=1).fit(_single(columns), output)
    return _averaged(model)


def fit_boosting(columns: FloatArray, output: FloatArray, seed: int) -> Trees:
    """Gradient boosting with squared loss, every column offered at every split."""
    model = GradientBoostingRegressor(
        n_estimators=N_BOOSTED,
        max_depth=None,
        max_leaf_nodes=BOOSTED_LEAVES,
        learning_rate=BOOSTED_RATE,
        random_state=seed,
    ).fit(_single(columns), output)
    trees = [_nodes(tree) for tree in model.estimators_[:, 0]]
    return pack_trees(trees, float(model.learning_rate), float(model.init_.constant_[0, 0]))


TREE_FITS: Mapping[str, TreeFit] = {FOREST: fit_forest, EXTRA: fit_extra, BOOSTING: fit_boosting}
"""The ensembles by name."""


def _averaged(model: Any) -> Trees:
    return pack_trees([_nodes(tree) for tree in model.estimators_], 1.0 / len(model.estimators_), 0.0)


def _nodes(estimator: Any) -> tuple[Any, ...]:
    tree = estimator.tree_
    return tree.feature, tree.threshold, tree.children_left, tree.children_right, tree.value[:, 0, 0]


def _single(columns: FloatArray) -> np.typing.NDArray[np.float32]:
    return np.ascontiguousarray(columns, dtype=np.float32)
