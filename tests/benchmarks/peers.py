"""The same outer step by other people's libraries for differentiating through an optimiser.

Each is used in its quickest documented way, and only for the step that is differentiated; the nine between are the
textbook's. Installed by the extra ``bench``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.textbook import Batch, Tuned, inner_loss


def higher_step(model: nn.Module, rate: float, t1: Batch, noise: Tensor, t2: Batch, h: Tuned) -> tuple[Tensor, ...]:
    """``higher`` (Grefenstette et al., 2019): a patched copy of the model and a differentiable SGD."""
    import higher

    optimiser = torch.optim.SGD(model.parameters(), lr=rate)
    with higher.innerloop_ctx(model, optimiser) as (patched, differentiable):
        differentiable.step(inner_loss(patched, t1, noise, h))
        hypergradient = torch.autograd.grad(F.cross_entropy(patched(t2.x), t2.y), h)
        stepped = list(patched.parameters())
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), stepped, strict=True):
            parameter.copy_(value)
    return hypergradient


def torchopt_step(model: nn.Module, rate: float, t1: Batch, noise: Tensor, t2: Batch, h: Tuned) -> tuple[Tensor, ...]:
    """``torchopt`` (Ren et al., 2023): its functional SGD, not in place so that it can be differentiated."""
    import torchopt

    names, parameters = zip(*model.named_parameters(), strict=True)
    optimiser = torchopt.sgd(rate)
    loss = inner_loss(model, t1, noise, h)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    updates, _ = optimiser.update(gradients, optimiser.init(parameters), params=parameters, inplace=False)
    stepped = torchopt.apply_updates(parameters, updates, inplace=False)
    outer_loss = F.cross_entropy(torch.func.functional_call(model, dict(zip(names, stepped, strict=True)), t2.x), t2.y)
    hypergradient = torch.autograd.grad(outer_loss, h)
    with torch.no_grad():
        for parameter, value in zip(parameters, stepped, strict=True):
            parameter.copy_(value)
    return hypergradient
