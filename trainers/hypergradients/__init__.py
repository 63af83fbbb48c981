"""The derivatives of the T2 loss by the hyperparameters: one file for each way to estimate them."""

from trainers.config import EstimatorName
from trainers.hypergradients.base import Estimator
from trainers.hypergradients.forward import Forward
from trainers.hypergradients.neumann import Neumann
from trainers.hypergradients.one_step import T1T2, T1T2AtTheta, T1T2Lagged
from trainers.hypergradients.slides import Slides

ESTIMATORS: dict[EstimatorName, type[Estimator]] = {
    "t1t2": T1T2,
    "t1t2_at_theta": T1T2AtTheta,
    "t1t2_lagged": T1T2Lagged,
    "seed_literal": Slides,  # the name that the hashes of specs cover
    "neumann": Neumann,
    "forward": Forward,
}
