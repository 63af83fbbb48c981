"""Hypergradients dC2/dh by name: one function each, one signature, from a :class:`Step` to a tensor [P, H].

With u the inner update, θ' = θ - u(g), g = ∇θ C1~(θ; h) on one T1 batch with its noise ε, S = ∂u/∂g (η1 for SGD) and
v = ∇θ C2, the exact one-step hypergradient is

    dC2/dh = - < S v, ∂_h g >,    ∂_λ g = ln 10 · 10^λ θ,    ∂_n0 g = ∂/∂n0 ∇θ C1(θ; x + n0 ε)

(Luketina et al., 2016, in the parametrisation 10^λ θ²/2 of the slides). The variants differ in where v is taken and in
how much of the past of θ they see. C2 is taken on a T2 batch without noise or penalty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from trainers.config import ConfigError, EstimatorName, OuterConfig
from trainers.hyperparameters import LN10, Layout, penalty_hypergradient
from trainers.networks.base import Descent, Network
from trainers.seeding import Stream, generator


@dataclass(frozen=True)
class Step:
    """One inner step and the T2 batch that judges it."""

    network: Network
    layout: Layout
    config: OuterConfig
    h: Tensor  # [P, H] that the step was made with
    strengths: Tensor  # [P, K], its 10^λ for each parameter tensor
    theta: Tensor  # [P, N] before the step
    theta_next: Tensor  # [P, N] after it
    trace: object  # the network's, of the T1 batch at ``theta``
    strength: Tensor  # 10^λ_j, broadcasting to [P, N]
    descent: Descent | None  # the step, where it was of SGD and can be undone without loss
    sensitivity: Tensor | float  # S, [P, N] or one number
    t2_x: Tensor  # [P, B2, ...]
    t2_y: Tensor  # [P, B2]
    batch_size: int  # B1
    z: Tensor | None  # [P, H, N], dθ'/dc as carried by ``forward``; with averaging that of ``theta_mean``
    slopes: Tensor  # [P, H], dh/dc of each hyperparameter's coordinate c
    theta_mean: Tensor  # [P, N], the running mean of θ' with averaging, else θ'
    learning_rate: float
    seeds: tuple[int, ...]
    number: int  # of the inner step, from 1

    def t2_trace(self, theta: Tensor) -> object:
        """The T2 batch at ``theta``: no noise, no penalty, no smoothing."""
        return self.network.linearise(theta, self.t2_x, self.t2_y)


def t1t2(step: Step) -> Tensor:
    """The exact derivative of C2 after one step: v at θ'. Assumes that θ itself does not depend on h."""
    return _one_step(step, step.network.scaled_gradient(step.t2_trace(step.theta_next), step.sensitivity), step.descent)


def t1t2_at_theta(step: Step) -> Tensor:
    """v at θ, before the step, as in the authors' code: the limit of a small step.

    It leaves out the η1/2 · ∂_h E[gᵀ ∇²C2 g] by which a noisier gradient is paid for at once (short-horizon bias, Wu et
    al., 2018), and so does not press the noise towards 0 as :func:`t1t2` does.
    """
    here = Descent(None, step.strength, 0.0)
    return _one_step(step, step.network.scaled_gradient(step.t2_trace(step.theta), step.sensitivity), here)


def seed_literal(step: Step) -> Tensor:
    """The slides' formulas as written: -η1 <∇θ C2, θ> for λ; N(0, n0) w0 ∇w0 C2, a fresh draw for each input, for n0.

    Assumes nothing that would make it the derivative of C2: the first lacks ln 10 · 10^λ, the second has mean zero.
    v is taken at θ' (the slides do not say). Knows L2 and input noise only.
    """
    layout = step.layout
    if any(column is not None for column in layout.hidden_noise) or layout.label_smoothing is not None or layout.custom:
        raise ConfigError(
            "outer.estimator = 'seed_literal': the slides give formulas for log10_l2 and input_noise_std "
            f"only, not for {list(layout.names)}"
        )
    network = step.network
    v = network.gradient(step.t2_trace(step.theta_next))
    dots = network.dots(step.theta, network.direction(v))
    out = -step.learning_rate / LN10 * penalty_hypergradient(layout, torch.ones_like(dots), dots)
    if layout.input_noise is not None:
        first = network.parameters[0]
        shape = (len(step.theta), *first.shape)
        product = (step.theta * v)[:, first.start : first.stop].view(shape)
        draws = [generator(s, Stream.SEED_LITERAL, step.number).standard_normal(first.shape[1:]) for s in step.seeds]
        noise = torch.stack([torch.from_numpy(d) for d in draws]).to(product).unsqueeze(1)
        noise = noise * step.h[:, layout.input_noise].view(-1, *[1] * len(first.shape))
        out[:, layout.input_noise] = (noise * product).flatten(1).sum(1)
    return out


def neumann(step: Step) -> Tensor:
    """Implicit differentiation by n = ``look_back`` terms of Neumann's series (Lorraine et al., Clarke et al.).

    - Σ_{i=0}^{n} < S (I - H S)^i v, ∂_h g >, v at θ', H = ∇²C1~ on the step's own T1 batch at θ. Assumes that the last
    n steps had this H and this S, as near a minimum. n = 0 is :func:`t1t2`.
    """
    network, trace = step.network, step.trace
    p = network.gradient(step.t2_trace(step.theta_next))
    total = p.clone()
    for _ in range(step.config.look_back):
        sp = step.sensitivity * p
        hsp = network.tangent(trace, sp.unsqueeze(1), step.batch_size, None).squeeze(1)
        p = p - hsp.addcmul_(step.strength, sp)
        total += p
    return _one_step(step, network.direction(step.sensitivity * total))


def forward(step: Step) -> Tensor:
    """<∇θ C2(θ'), z> with z = dθ'/dh carried along the whole training (RTHO, Franceschi et al., 2017).

    z ← (I - S ∇²C1~) γ z - S ∂_h g at every inner step: γ = 0 is :func:`t1t2`, γ = 1 the derivative of the unrolled
    training. Assumes of γ < 1 only that what h did 1/(1-γ) steps ago no longer matters. With ``tangent_every`` = j > 1
    only each j-th step is carried, at its own length: the fixed point -(∇²C1~)⁻¹ ∂_h g is the same, approached j times
    slower, and the steps stay as stable as the training's own (steps j times longer would not). With momentum or Adam
    j > 1 is approximate besides: the tangent of the optimiser's state then fades j times slower than the state itself.
    ``antithetic`` carries the derivative of the gradient's mean over ε and -ε: the part of ∂_n0 g that is odd in ε,
    which has mean zero but does not vanish with n0 as the rest does, cancels. z is carried for the coordinate c of the
    outer step; for c = n0² what each step adds, ∂_n0 g / (2 n0), stays finite down to n0 = 0 then.
    """
    if step.z is None:
        raise ValueError("forward needs the tangent z of every step since the last change of γ")
    v = step.network.gradient(step.t2_trace(step.theta_mean))
    return torch.einsum("pn,phn->ph", v, step.z) / step.slopes


def _one_step(step: Step, w: object, since: Descent | None = None) -> Tensor:
    """- <w, ∂_h g>: the λ part in closed form, the noise part as the network contracts it."""
    dots = step.network.dots(step.theta, w, since)
    return -(penalty_hypergradient(step.layout, step.strengths, dots) + step.network.mixed_vjp(step.trace, w))


ESTIMATORS: dict[EstimatorName, Callable[[Step], Tensor]] = {
    "t1t2": t1t2,
    "t1t2_at_theta": t1t2_at_theta,
    "seed_literal": seed_literal,
    "neumann": neumann,
    "forward": forward,
}
