"""Baselines: what does without a network: the most frequent answer, linear models, gradient-boosted trees."""

import warnings
from typing import Any

# Inputs beyond which trees and linear models are not tried.
MOST_INPUTS = 4096
NAMES = ("most frequent", "logistic regression", "linear regression", "gradient-boosted trees")


def has_sklearn() -> bool:
    """Whether scikit-learn is installed."""
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


def names(classes: bool, tables: bool) -> list[str]:
    """Baselines that scikit-learn gives for a task; trees for tables alone."""
    if not has_sklearn():
        return []
    return ["logistic regression" if classes else "linear regression"] + ["gradient-boosted trees"] * tables


def warm() -> None:
    """Loads what the first fit would."""
    if has_sklearn():
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401


def always(y: Any, test_y: Any, classes: bool) -> float:
    """The error of the most frequent class of `y`, or of its mean, on a test set."""
    import numpy as np

    if classes:
        values, counts = np.unique(y, return_counts=True)
        return float((test_y != values[counts.argmax()]).mean())
    return float(((test_y - np.mean(y)) ** 2).mean() / max(float(np.var(test_y)), 1e-12))


def fit(name: str, x: Any, y: Any, seed: int) -> Any:
    """A fitted model of scikit-learn with `predict`; regularisation by validation inside the sample."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV

    if name == "gradient-boosted trees":
        few = {"min_samples_leaf": max(2, min(20, len(y) // 20)), "early_stopping": len(y) >= 200,
               "random_state": seed}  # fmt: skip
        kind = HistGradientBoostingClassifier if y.dtype.kind in "iu" else HistGradientBoostingRegressor
        made: Any = kind(**few)
    elif name == "logistic regression":
        made = LogisticRegression(C=_strength(x, y, seed), max_iter=200)
    else:
        made = RidgeCV(alphas=(0.01, 0.1, 1.0, 10.0, 100.0, 1000.0))
    with warnings.catch_warnings():
        # a fit that has not settled is a fit; its error is what counts
        warnings.simplefilter("ignore")
        return made.fit(x, y)


def _strength(x: Any, y: Any, seed: int) -> float:
    """C with the least error on a fifth of the sample."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    order = np.random.default_rng([seed, 2]).permutation(len(y))
    held, rest = order[: len(y) // 5], order[len(y) // 5 :]
    if len(np.unique(y[rest])) < 2 or not len(held):
        return 1.0
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for c in (0.01, 0.1, 1.0):
            found[c] = float(
                (
                    LogisticRegression(C=c, max_iter=100).fit(x[rest], y[rest]).predict(x[held]) != y[held]
                ).mean()
            )
    return min(found, key=lambda c: found[c])
