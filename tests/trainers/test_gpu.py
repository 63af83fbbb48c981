"""What a GPU must do: the tests of every device, and what only a GPU has. Run by ``make gpu``."""

from __future__ import annotations

from contextlib import AbstractContextManager

import pytest
import torch

from tests.trainers.device_conformance import NETWORKS, DeviceConformance, config_of, members_of, problem_of
from tests.trainers.runs import bits, run
from trainers import ConfigError, Member
from trainers.memory import available, member_bytes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine"),
]


class TestConformance(DeviceConformance):
    device = "cuda"

    def opened(self) -> AbstractContextManager[None]:
        """cuDNN may choose convolutions whose sums have no order; studies take those that are fastest.

        As in a study, the factors of convolutions keep all their digits.
        """
        return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_same_training_twice_gives_the_same_bits(network: str) -> None:
    """Without any setting for it, as the runs of a study that are trained again after a crash."""
    config = config_of(NETWORKS[network], "forward", "adam")
    first, second = (run(problem, config, members_of(problem)) for problem in [problem_of(config, "cuda")] * 2)
    assert bits(first) == bits(second)


def test_a_pack_beyond_the_memory_of_the_gpu_is_refused() -> None:
    config = config_of(None, "forward", "sgd")
    problem = problem_of(config, "cuda")
    free = available(torch.device("cuda"))
    assert free is not None
    assert free <= torch.cuda.get_device_properties(0).total_memory
    (member, *_) = members_of(problem)
    too_many = 2 * free // member_bytes(problem, config, online=True)

    class Repeated(list[Member]):
        """As long as it says, but not in memory."""

        def __len__(self) -> int:
            return too_many

    with pytest.raises(ConfigError, match=rf"P = {too_many}: needs about .* are available on cuda"):
        run(problem, config, Repeated([member]))
