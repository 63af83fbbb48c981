"""How many runs one actor trains as one batched computation where a spec says ``runs_per_actor = "auto"``.

The number is part of the plan, so it follows from the spec alone and not from the machine that the driver or the first
actor happens to be on: from the size of the networks, and from the memory that the spec gives an actor.

The estimate of memory here is rough, and one for all estimators and inner optimisers; a finer one would change the
plans of studies that exist. ``trainers.memory`` estimates from the loaded data and network, and refuses what a device
cannot hold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trainers.sizes import INPUT_SHAPES, perceptron_weights

if TYPE_CHECKING:
    from service.spec.study_spec import StudySpec

CPU_GIB = 1.0  # of an actor whose spec names no memory
GPU_GIB = 16.0  # of a whole GPU: the smallest that data centres still have
# A core is busy with about this many weights: smaller networks leave it waiting for the next operation to begin.
WEIGHTS_THAT_FILL_A_CORE = 100_000
LARGEST_ON_A_CPU, LARGEST_ON_A_GPU = 16, 1024
COPIES = 12  # of θ: itself, gradient, optimiser state, tangents with their means, temporaries
BATCHES = 20  # of the inputs: the batch, its noise (drawn for many steps at a time) and activations


def pack_size_of(spec: StudySpec) -> int:
    """``runs_per_actor`` as a number."""
    asked = spec.execution.runs_per_actor
    return _automatic(spec) if asked == "auto" else asked


def _automatic(spec: StudySpec) -> int:
    """The largest power of two that pays and fits half the memory; 1 on CPUs and 32 on GPUs for unknown networks."""
    gpus, memory = spec.execution.gpus_per_actor, spec.execution.memory_per_actor_gib
    shape = INPUT_SHAPES.get(spec.data.name)
    if shape is None or any(model.name != "mlp" for model in spec.models):
        return 32 if gpus > 0 else 1
    inputs = math.prod(shape)
    largest = max(perceptron_weights(inputs, model.hidden) for model in spec.models)
    budget = (GPU_GIB * min(gpus, 1.0) if gpus > 0 else memory or CPU_GIB) * 2**30 / 2
    member = 4 * (COPIES * largest + BATCHES * spec.inner.batch_size * inputs)
    most = LARGEST_ON_A_GPU if gpus > 0 else min(LARGEST_ON_A_CPU, WEIGHTS_THAT_FILL_A_CORE // largest)
    return 1 << int(math.log2(max(1, min(most, budget // member))))
