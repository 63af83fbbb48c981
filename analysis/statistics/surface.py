"""The response surface over the hyperparameters' box, from the grid of fixed-hyperparameter runs.

A Gaussian process (Matérn 5/2, one length scale for each hyperparameter; Rasmussen and Williams 2006, chapter 2)
smooths the cells' means. Its noise is not fitted but measured: the scatter of the replicate seeds. Positive quantities
are modelled by their logarithm, because losses far from the optimum are larger by orders than the differences near it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from analysis.frames import Boxes, Floats, NotComputable, hyperparameters, scaled, tie_layers

_SMALLEST_NOISE = 1e-6  # relative to the surface's scale: keeps the covariance matrix well conditioned
_BATCH = 20_000  # points predicted at a time
_RESTARTS = 1
_SURFACE_SEED = 0  # of the restarts of the length scales' search


@dataclass(frozen=True, kw_only=True)
class Surface:
    """A smoothed response surface of one metric for one model.

    ``cells`` is the frame of :func:`grid_cells`. ``seed_noise`` is the standard deviation of one run's metric between
    seeds at the same hyperparameters. ``paired_noise`` is the same without the effect that a seed has on all cells.
    """

    model: str
    metric: str
    names: tuple[str, ...]  # the D hyperparameters that the grid varies
    box: Floats = field(repr=False)  # [D, 2], low and high
    cells: pd.DataFrame = field(repr=False)
    seed_noise: float
    paired_noise: float
    noise_from: str  # "replicates", or "surface" where the grid has one replicate
    logarithmic: bool
    _process: Any = field(repr=False)  # the fitted Gaussian process

    def predict(self, points: Floats) -> Floats:
        """The expected metric at ``points`` [N, D] in the hyperparameters' units; NaN where a coordinate is."""
        points = np.atleast_2d(np.asarray(points, dtype=float))
        out = np.full(len(points), np.nan)
        finite = np.flatnonzero(np.isfinite(points).all(axis=1))
        for begin in range(0, len(finite), _BATCH):
            chunk = finite[begin : begin + _BATCH]
            out[chunk] = self._process.predict(scaled(points[chunk], self.box))
        return np.exp(out) if self.logarithmic else out

    def draw(self, points: Floats, draws: int, *, seed: int) -> Floats:
        """Surfaces drawn from the Gaussian process's posterior: [N, draws] values at ``points`` [N, D], jointly.

        They differ by the seed noise of the cells and by what is not known between them. Memory grows as N² and time as
        N³, so a few thousand points are the most.
        """
        with _one_thread():
            mean, covariance = self._process.predict(scaled(np.atleast_2d(points), self.box), return_cov=True)
            normal = np.random.default_rng(seed).standard_normal((len(mean), draws))
            out = mean[:, None] + _root(covariance) @ normal
        return np.exp(out) if self.logarithmic else np.asarray(out)

    def smoother(self, points: Floats) -> Floats:
        """The matrix [N, cells] that maps the cells' centred values (logarithms where ``logarithmic``) to the surface.

        With its kernel fixed a Gaussian process is linear in its data, so a surface for permuted cells is one product.
        """
        process = self._process
        across = process.kernel_(scaled(np.atleast_2d(points), self.box), process.X_train_)
        within = process.kernel_(process.X_train_) + np.diag(np.broadcast_to(process.alpha, len(process.X_train_)))
        return np.asarray(np.linalg.solve(within, across.T).T)

    def lattice(self, size: int = 101) -> tuple[list[Floats], Floats]:
        """The axes (D arrays of ``size`` values) and the surface on them [size, …, size]: for pictures, D ≤ 2 or so."""
        axes = [np.linspace(low, high, size) for low, high in self.box]
        points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
        return axes, self.predict(points).reshape([size] * len(axes))


def grid_cells(runs: pd.DataFrame, model: str, metric: str = "t2_loss") -> pd.DataFrame | NotComputable:
    """The grid's cells for one model: one row each, in the order of the grid.

    Columns: cell, one for each hyperparameter that the grid varies, mean and std (of the completed replicates), n, se
    (std / √n), diverged (how many replicates did). A cell with a diverged replicate keeps the mean of the others but is
    never in a region.
    """
    tied = tie_layers(runs[(runs["arm"] == "grid") & (runs["model"] == model) & (runs["status"] != "failed")])
    if tied.empty:
        return NotComputable(f"no grid arm for model {model}: the response surface needs fixed-hyperparameter runs")
    names = [h for h in hyperparameters(tied) if len(tied[f"{h}_initial"].unique()) > 1]
    if not names:
        return NotComputable(f"the grid of model {model} has one cell: no hyperparameter varies")
    completed = tied["status"] == "completed"
    if completed.sum() < 2 or tied.loc[completed, "config_index"].nunique() < 3:
        return NotComputable(f"fewer than three cells of model {model}'s grid have a completed run")
    tied = tied.assign(_value=tied[metric].where(completed), _diverged=~completed)
    grouped = tied.groupby("config_index", sort=True)
    cells = grouped[[f"{h}_initial" for h in names]].first().set_axis(names, axis=1)
    cells["mean"], cells["std"] = grouped["_value"].mean(), grouped["_value"].std()
    cells["n"] = grouped["_value"].count()
    cells["se"] = cells["std"] / np.sqrt(cells["n"])
    cells["diverged"] = grouped["_diverged"].sum()
    return cells.reset_index(names="cell")


def fit_surface(runs: pd.DataFrame, model: str, boxes: Boxes, metric: str = "t2_loss") -> Surface | NotComputable:
    """The smoothed surface of ``metric`` for ``model`` over the hyperparameters that the grid varies."""
    cells = grid_cells(runs, model, metric)
    if isinstance(cells, NotComputable):
        return cells
    names = tuple(c for c in cells.columns if c in boxes)
    box = np.array([boxes[h] for h in names], dtype=float)
    usable = cells[cells["n"] > 0]
    worst = usable["mean"].max()
    # A cell where runs diverge is at least as bad as the worst one that did not; leaving it out would let the surface
    # extrapolate a good region across it.
    value = cells["mean"].where(cells["diverged"] == 0, worst).fillna(worst).to_numpy(dtype=float)
    logarithmic = bool((value > 0).all())
    unit = np.log(value) if logarithmic else value
    noise = _noise(runs, model, metric, cells)
    jacobian = 1 / value if logarithmic else np.ones(len(value))
    replicates = np.maximum(cells["n"].to_numpy(dtype=float), 1)
    u = scaled(cells[list(names)].to_numpy(dtype=float), box)
    variance = None if noise is None else (noise[1] * jacobian) ** 2 / replicates
    process = _fit_process(u, unit, variance)
    if noise is None:  # one replicate: what the surface cannot follow is taken for noise
        residual = np.abs(unit - process.predict(u)) / jacobian
        spread = float(np.median(residual) / stats.norm.ppf(0.75))
        noise = (spread, spread)
    return Surface(
        model=model,
        metric=metric,
        names=names,
        box=box,
        cells=cells,
        seed_noise=noise[0],
        paired_noise=noise[1],
        noise_from="surface" if variance is None else "replicates",
        logarithmic=logarithmic,
        _process=process,
    )


def _noise(runs: pd.DataFrame, model: str, metric: str, cells: pd.DataFrame) -> tuple[float, float] | None:
    """Standard deviation of one run between seeds: in all, and without the effect that a seed has on every cell.

    Both are medians over cells (divided by the median of χ²/df), as poor cells scatter far more than good ones.
    """
    chosen = runs[(runs["arm"] == "grid") & (runs["model"] == model) & (runs["status"] == "completed")]
    table = chosen.pivot_table(index="config_index", columns="replicate", values=metric).to_numpy(dtype=float)
    counts = np.isfinite(table).sum(axis=1)
    table, df = table[counts > 1], counts[counts > 1] - 1
    if not len(table):
        return None

    def typical(residual: Floats, freedom: Floats) -> float:
        variance = np.nansum(residual**2, axis=1) / freedom
        return float(np.sqrt(np.median(variance / (stats.chi2.median(freedom) / freedom))))

    within = table - np.nanmean(table, axis=1, keepdims=True)
    total = typical(within, df.astype(float))
    paired = typical(within - np.nanmedian(within, axis=0), df * (1 - 1 / len(table)) if len(table) > 1 else df)
    return total, paired


def _fit_process(u: Floats, value: Floats, variance: Floats | None) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    scale = float(value.std()) or 1.0
    kernel: Any = ConstantKernel(1.0, (1e-2, 1e3)) * Matern([1.0] * u.shape[1], (0.1, 20.0), nu=2.5)
    if variance is None:
        kernel = kernel + WhiteKernel(1e-2, (1e-6, 1.0))
        alpha: Any = _SMALLEST_NOISE
    else:
        alpha = np.maximum(variance / scale**2, _SMALLEST_NOISE)
    process = GaussianProcessRegressor(
        kernel, alpha=alpha, normalize_y=True, random_state=_SURFACE_SEED, n_restarts_optimizer=_RESTARTS
    )
    with _one_thread(), warnings.catch_warnings():
        # A flat direction drives its length scale to the bound, as it should.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return process.fit(u, value)


def _one_thread() -> Any:
    """These matrices are small: one thread is quicker than many, and no result depends on the number of cores."""
    return threadpool_limits(limits=1, user_api="blas")


def _root(covariance: Floats) -> Floats:
    """A lower triangular root of a covariance whose smallest eigenvalues rounding may have made negative."""
    for exponent in range(-12, 0):
        try:
            jitter = 10.0**exponent * covariance.diagonal().max() * np.eye(len(covariance))
            return np.asarray(np.linalg.cholesky(covariance + jitter))
        except np.linalg.LinAlgError:
            continue
    raise FloatingPointError("the surface's covariance is not positive semi-definite")


def directions(surface: Surface) -> pd.DataFrame:
    """The surface's principal directions in box units, from the most sensitive to the flattest.

    Eigenvectors of the Hessian of a quadratic fitted by least squares to the surface over the better half of the box.
    Columns: direction (1 is the most sensitive), curvature (of the metric's logarithm for a positive metric, for each
    squared box unit), and one for each hyperparameter with the components of the unit vector (first sizeable one > 0).
    """
    dims = len(surface.names)
    u = stats.qmc.Sobol(dims, seed=_SURFACE_SEED).random_base2(11)
    value = surface.predict(surface.box[:, 0] + u * (surface.box[:, 1] - surface.box[:, 0]))
    value = np.log(value) if surface.logarithmic else value
    better = value <= np.median(value)
    u, value = u[better], value[better]
    upper = np.triu_indices(dims)
    design = np.hstack([np.ones((len(u), 1)), u, u[:, upper[0]] * u[:, upper[1]]])
    coefficients = np.linalg.lstsq(design, value, rcond=None)[0]
    hessian = np.zeros((dims, dims))
    hessian[upper] = coefficients[1 + dims :]
    hessian = hessian + hessian.T
    curvature, vectors = np.linalg.eigh(hessian)
    order = np.argsort(-np.abs(curvature))
    vectors = vectors[:, order].T
    leading = vectors[np.arange(dims), np.abs(vectors).argmax(axis=1)]
    frame = pd.DataFrame(vectors * np.sign(leading)[:, None], columns=list(surface.names))
    frame.insert(0, "direction", range(1, dims + 1))
    frame.insert(1, "curvature", curvature[order])
    return frame
