"""Data sets that no setting was chosen on. The search tries the default settings on them."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer, make_classification

from trainers.data import Samples


def breast_cancer() -> Samples:
    """scikit-learn's copy of the Wisconsin diagnostic set: 569 examples, 30 features, 2 classes."""
    x, y = load_breast_cancer(return_X_y=True)
    return Samples(x.astype(np.float32), y, 2)


def synthetic() -> Samples:
    """Five overlapping classes in 40 dimensions, of which 10 tell them apart; 5 % of the labels are wrong."""
    x, y = make_classification(
        3_000, 40, n_informative=10, n_redundant=10, n_classes=5, n_clusters_per_class=2, flip_y=0.05, random_state=3
    )
    return Samples(x.astype(np.float32), y, 5)
