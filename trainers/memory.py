"""How much memory a pack takes. One that the device cannot hold is refused before anything is trained.

``service/spec/packing.py`` has a rougher estimate, by which a plan chooses the size of its packs: it must follow from
the spec alone, before the data and the network are loaded. This one knows both, and decides.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import Tensor

from trainers.config import ConfigError, TrainConfig
from trainers.hypergradients import ESTIMATORS
from trainers.hyperparameters import lay_out
from trainers.networks.perceptron.network import StackedMLP, parameters_of
from trainers.noise import CACHED_NUMBERS, steps_at_once
from trainers.optimisers.inner import STATE
from trainers.problem import Problem
from trainers.sizes import CLASSES, INPUT_SHAPES

CGROUPS = (  # what a container may use and what it uses, by version 2 and 1
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes",
     "/sys/fs/cgroup/memory/memory.stat"),
)  # fmt: skip


def check(problem: Problem, config: TrainConfig, members: int, online: bool, actors: int = 1) -> None:
    """Raise :class:`ConfigError` where a pack of this many members is beyond the memory that is available now.

    ``actors`` processes share that memory.
    """
    device = problem.t1[0].device
    free = available(device)
    each = member_bytes(problem, config, online)
    if free is not None and members * each > (share := free // actors):
        among = f" for {actors} actors" if actors > 1 else ""
        raise ConfigError(
            f"members = a pack of P = {members}: needs about {_gib(members * each)}, and {_gib(free)} are available on "
            f"{device}{among}: P must be at most {share // each}"
        )


def check_ahead(config: TrainConfig, members: int, online: bool, actors: int) -> None:
    """The same for a perceptron on data whose size is known, before they are read; nothing is said of any other."""
    shape = INPUT_SHAPES.get(config.data.name)
    if shape is None or config.model.name != "mlp" or config.hyperparameters.custom:
        return
    inputs = math.prod(shape)
    layout = lay_out(
        config.hyperparameters, parameters_of(inputs, config.model.hidden, CLASSES), len(config.model.hidden)
    )
    number = torch.zeros((), dtype=getattr(torch, config.dtype))

    def stand_in(examples: int) -> tuple[Tensor, Tensor]:
        """One number seen as many, in place of data."""
        return number.expand(examples, inputs), torch.zeros((), dtype=torch.int64).expand(examples)

    data = config.data
    problem = Problem(
        t1=stand_in(data.t1_size),
        t2=stand_in(data.t2_size),
        test=stand_in(data.test_size),
        classes=CLASSES,
        network=StackedMLP(config.model, inputs, CLASSES, layout),
        layout=layout,
        data_hash="",
    )
    check(problem, config, members, online, actors)


def member_bytes(problem: Problem, config: TrainConfig, online: bool) -> int:
    """What one more member of a pack adds at its peak, estimated from the sizes of what is kept at one time.

    Copies of θ: θ itself, its gradient, the optimiser's state and temporaries, and, where an outer step follows, θ
    before the step. Of every batch: its inputs, noise and activations. Of the data: the order of the epoch. What the
    estimator keeps besides, it says itself.
    """
    network, outer, batch = problem.network, config.outer, config.inner.batch_size
    states = len(STATE[config.inner.optimiser])
    copies = 1 + (2 + states if states else 0)
    examples = 2 * batch  # the last step's until those of the next are there
    estimator = 0
    if online:
        copies += 1 + states + (3 if config.inner.optimiser == "adam" else 0)  # Adam's sensitivity
        examples += outer.batch_size or len(problem.t2[1])
        estimator = ESTIMATORS[outer.estimator].memory(problem.task(config))
    noise = sum(math.prod(shape) for shape in network.noise_shapes if shape is not None)
    numbers = copies * network.size + examples * network.example_size + estimator
    # A GPU draws several steps at once. A CPU does so only where they are small, which is left out here.
    draws = (batch + 1) // 2 * noise * steps_at_once(CACHED_NUMBERS, problem.t1[0].device)
    numbers += 2 * draws  # and the bits that they are made of
    orders = 16 * (len(problem.t1[1]) + len(problem.t2[1]))
    return problem.t1[0].element_size() * numbers + orders


def available(device: torch.device) -> int | None:
    """Bytes that a training may still take on a device; None where this system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    known = [value for value in (_of_the_machine(), *(_of_a_cgroup(*paths) for paths in CGROUPS)) if value is not None]
    return min(known, default=None)


def available_here() -> int | None:
    """The same for this machine's processors."""
    return available(torch.device("cpu"))


def _of_the_machine() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):  # not Linux: all there is
        names = os.sysconf_names
        if "SC_PHYS_PAGES" in names and "SC_PAGE_SIZE" in names:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return None


def _of_a_cgroup(limit: str, used: str, stat: str) -> int | None:
    """What is left below a container's limit, counting the pages of files that it would give up first."""
    try:
        bound, now = Path(limit).read_text().strip(), int(Path(used).read_text())
        kept = dict(line.split() for line in Path(stat).read_text().splitlines())
    except (OSError, ValueError):
        return None
    if not bound.isdigit():  # "max": no limit
        return None
    reclaimable = int(kept.get("total_inactive_file", kept.get("inactive_file", 0)))
    return max(int(bound) - now + reclaimable, 0)


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
