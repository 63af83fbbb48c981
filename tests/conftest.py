"""Settings of every test session."""

import importlib.util
import os
import signal

import pytest

# Here and in the processes that tests start, before matplotlib and Ray are imported:
os.environ["MPLBACKEND"] = "Agg"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # tests speak to nobody outside this machine
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts its background jobs
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the processes that tests interrupt would inherit it

if importlib.util.find_spec("hypothesis"):  # the tests for a GPU do without it
    from hypothesis import settings

    # The same examples on every machine and run; a shared machine may be slow, so no time limit for each example.
    settings.register_profile("deterministic", derandomize=True, deadline=None)
    settings.load_profile("deterministic")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-seed", type=int, default=1, help="seed of the moments at which the fault tests kill")


@pytest.fixture
def fault_seed(request: pytest.FixtureRequest) -> int:
    """The seed given by ``make test-faults SEED=n``."""
    return int(request.config.getoption("--fault-seed"))
