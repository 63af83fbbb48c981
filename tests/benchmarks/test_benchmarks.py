"""The benchmarks run, and what they compare is the same work."""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks import fixed_step, images, measure, modules, overhead, packing, peers, real, scale, textbook
from tests.benchmarks.real_rows import FLOOR
from tests.benchmarks.tuners import ray_tune
from tests.benchmarks.usage import usage
from tests.trainers.elsewhere import DEVICE, pretended_device
from tests.trainers.images import image_config, image_split, last_point, small_cnn
from tests.trainers.problems import small_config, small_problem
from trainers import Member, Point, train
from trainers.batches import Order
from trainers.config import DataConfig, HyperparameterConfig, Range, TrainConfig
from trainers.data import load_split
from trainers.noise import Noise, whole
from trainers.problem import Problem, build_problem
from trainers.seeding import Stream

LIBRARIES = {"autograd": None, "higher": "higher", "torchopt": "torchopt"}
ReportOf = Callable[..., dict[str, Any]]
STEPS = {"autograd": textbook.autograd_step, "higher": peers.higher_step, "torchopt": peers.torchopt_step}


def needs(name: str) -> textbook.OuterStep:
    """The outer step of that name; skips the test where its library is missing."""
    library = LIBRARIES[name]
    if library is not None:
        pytest.importorskip(library, reason=f"{library} is not installed: install the extra 'bench' to compare with it")
    return STEPS[name]


def needs_optuna() -> None:
    """Skips the test where Optuna is missing."""
    pytest.importorskip("optuna", reason="optuna is not installed: install the extra 'bench' to compare with it")


@pytest.mark.parametrize("name", LIBRARIES)
def test_all_compute_the_same_outer_step(name: str) -> None:
    """From one θ, batch and noise, in float64: the same θ', hypergradient and hyperparameters as ``trainers``."""
    outer_step = needs(name)
    box = HyperparameterConfig(Range(-5.5, -2.5, learning_rate=0.03), Range(0.0, 0.8, learning_rate=0.01))
    config = small_config(hyperparameters=box)
    problem = small_problem(config)
    values = {"log10_l2": -3.0, "input_noise_std": 0.4}
    point = [r for r in train(problem, config, [Member(7, values)], online=True) if isinstance(r, Point)][-1]

    model = textbook.perceptron((6, 5, 4, 3), torch.nn.Tanh).double()
    torch.nn.utils.vector_to_parameters(problem.network.initial(7), model.parameters())
    x, y = Order(*problem.t1, [7], Stream.T1_ORDER, 8).at(0)
    (half, *_) = Noise([7], problem.network.noise_shapes, 8, x).at(0)
    assert half is not None
    tuned = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values.values()]
    t1, t2 = textbook.Batch(x[0], y[0]), textbook.Batch(*problem.t2)
    gradients = outer_step(model, 0.3, t1, whole(half, 8)[0], t2, textbook.Hyperparameters(*tuned))

    assert [float(g) for g in gradients] == pytest.approx(list(point.hypergradient.values()), rel=1e-9)
    assert textbook.evaluate(model, *problem.t2)[0] == pytest.approx(point.t2_loss, rel=1e-12)


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_textbook_training_tunes_by_any_of_them(name: str) -> None:
    """The loop around the step: the same draws give the same training, whichever library takes the outer steps."""
    outer_step = needs(name)
    problem = small_problem(small_config())
    tuned = {}
    for step in (outer_step, textbook.autograd_step):
        torch.manual_seed(3)
        model = textbook.perceptron((6, 5, 3)).double()
        batches = (textbook.batches(*part, 8) for part in (problem.t1, problem.t2))
        tuned[step] = textbook.train(
            model, *batches, rate=0.1, steps=9, log10_l2=-4.0, noise_std=0.3, outer_step=step, every=3
        )
        assert tuned[step] != (-4.0, 0.3)
    assert tuned[outer_step] == pytest.approx(tuned[textbook.autograd_step], rel=1e-6)


def test_the_penalty_in_the_loss_is_the_weight_decay_of_sgd() -> None:
    problem = small_problem(small_config())
    losses = []
    for weight_decay in (False, True):
        torch.manual_seed(3)
        model = textbook.perceptron((6, 5, 3)).double()
        t1 = textbook.batches(*problem.t1, 8)
        textbook.train(model, t1, iter(()), rate=0.1, steps=9, log10_l2=-1.0, noise_std=0.3, weight_decay=weight_decay)
        losses.append(textbook.evaluate(model, *problem.t2)[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


def test_every_repeat_runs_every_arm_and_none_is_always_first() -> None:
    seen: list[str] = []

    def arm(name: str) -> float:
        seen.append(name)
        return float(len(seen))

    arms = {name: partial(arm, name) for name in "abc"}
    found = measure.interleaved(arms, 3)
    assert seen == list("abcbcacab")
    assert found == {"a": [1.0, 6.0, 8.0], "b": [2.0, 4.0, 9.0], "c": [3.0, 5.0, 7.0]}
    assert measure.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "repeats": [3.0, 1.0, 2.0]}
    assert measure.quotients([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]


@pytest.fixture
def report_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ReportOf]:
    """Run a benchmark's command with these arguments and read what it wrote."""
    threads = torch.get_num_threads()

    def run(module: str, *arguments: str) -> dict[str, Any]:
        out = tmp_path / "deep" / "report.json"
        monkeypatch.setattr("sys.argv", [module, *arguments, "--out", str(out)])
        importlib.import_module(f"tests.benchmarks.{module}").main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    yield run
    torch.set_num_threads(threads)


def test_overhead_prints_and_writes_its_table(
    report_of: ReportOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    needs("higher")
    needs("torchopt")

    def small(steps: int, data: DataConfig, hidden: tuple[int, ...]) -> TrainConfig:
        small_data = replace(data, name="digits", t1_size=200, t2_size=100, test_size=100)
        return configuration(steps, small_data, hidden=(8, 8))

    configuration = overhead.configuration
    monkeypatch.setattr(overhead, "configuration", small)
    report = report_of("overhead", "--steps", "10", "--repeats", "2")
    assert {"online_over_fixed", "online_over_textbook", "online_over_higher", "online_over_torchopt"} <= set(
        report["ratios"]
    )
    assert all(ratio > 0 for ratio in report["ratios"].values())
    assert report["ratios"]["floor_of_online_over_fixed"] > 1
    assert all(len(row["repeats"]) == 2 for row in report["microseconds_per_step"].values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*report["microseconds_per_step"], *report["ratios"]])


@pytest.fixture
def small_and_without_peers(monkeypatch: pytest.MonkeyPatch) -> TrainConfig:
    """The setting of a short benchmark of overhead, as where the other libraries are not installed."""
    monkeypatch.setattr(overhead, "PEERS", dict.fromkeys(overhead.PEERS, "no_such_library"))
    data = DataConfig("tests.benchmarks.images:random_images", t1_size=200, t2_size=100, test_size=100)
    return overhead.configuration(10, data, hidden=(8, 8))


def test_libraries_that_are_not_installed_are_left_out_and_named(
    small_and_without_peers: TrainConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    report: dict[str, Any] = overhead.measure(small_and_without_peers, repeats=1)
    assert not {overhead.HIGHER, overhead.TORCHOPT} & report["microseconds_per_step"].keys()
    assert {"online_over_fixed", "online_over_textbook"} <= report["ratios"].keys()
    assert not {"online_over_higher", "torchopt_over_textbook"} & report["ratios"].keys()
    overhead.show(report)
    assert "no_such_library: not installed" in capsys.readouterr().out


def test_the_benchmarks_keep_to_one_device(
    small_and_without_peers: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a device that is only pretended, which refuses to be mixed with the CPU."""
    config = small_and_without_peers
    monkeypatch.setattr(packing, "configuration", lambda device, steps: config)
    with pretended_device():
        ratios = overhead.measure(config, repeats=1, device=DEVICE)["ratios"]
        rates = packing.measure(DEVICE, steps=10, largest=2, repeats=1)["runs_per_second"]
    assert isinstance(ratios, dict)
    assert ratios["online_over_fixed"] > 0
    assert all(list(by_size) == ["1", "2"] for kind, by_size in rates.items() if kind in packing.KINDS)


def test_random_images_take_the_place_of_mnist_where_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert images.mnist().name == "mnist5k"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    absent = images.mnist()
    monkeypatch.undo()
    assert load_split(absent).t1_x.shape == load_split(images.mnist()).t1_x.shape == (3000, 1, 28, 28)


def test_modules_prints_and_writes_its_table(
    report_of: ReportOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(steps: int, data: DataConfig, channels: tuple[int, ...]) -> TrainConfig:
        small_data = replace(data, name="digits", t1_size=200, t2_size=100, test_size=100)
        return configuration(steps, small_data, channels=(2, 3))

    configuration = modules.configuration
    monkeypatch.setattr(modules, "configuration", small)
    report = report_of("modules", "--steps", "10", "--repeats", "2")
    assert report["ratios"].keys() == modules.RATIOS.keys()
    assert all(len(row["repeats"]) == 2 for row in report["microseconds_per_step"].values())
    printed = capsys.readouterr().out
    assert all(name in printed for name in [*report["microseconds_per_step"], *report["ratios"]])


def test_the_fixed_step_is_printed_and_written_beside_its_floor(
    report_of: ReportOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fixed_step, "mnist", lambda: DataConfig("digits", t1_size=200, t2_size=100, test_size=100))
    monkeypatch.setattr(fixed_step, "NETWORKS", ((8,), (8, 8)))
    report = report_of("fixed_step", "--steps", "4", "--repeats", "2")
    assert len(report["networks"]) == 4
    for one in report["networks"].values():
        times = {name: row["repeats"] for name, row in one["microseconds_per_step"].items()}
        ours, floor = times.pop(fixed_step.OURS), times.pop("floor")
        assert floor == pytest.approx([sum(part) for part in zip(*times.values(), strict=True)])
        assert one["ours_over_floor"]["repeats"] == pytest.approx([a / b for a, b in zip(ours, floor, strict=True)])
    assert "ours / floor" in capsys.readouterr().out


def test_what_a_fixed_step_needs_is_counted() -> None:
    """By hand for 3-2-5 and batches of 4: five products, two by the first layer and three by the second."""
    found = fixed_step.counted((3, 2, 5), 4, 2)
    assert found["multiplications"] == 4 * (2 * 3 * 2 + 3 * 2 * 5)
    assert found["normal_numbers"] == 2 * 3
    forward, by_weights, by_inputs = (12 + 6 + 8) + (8 + 10 + 20), (12 + 6 + 8) + (8 + 10 + 20), 8 + 10 + 20
    others = 2 * 12 + 6 + (6 + 2 * 12) + 2 * 16
    assert found["bytes"] == 4 * (forward + by_weights + by_inputs + others)
    assert found["bytes_at_once"] == 4 * 2 * (16 + 12 + 6)


def test_the_textbooks_convolutional_network_takes_the_same_outer_step() -> None:
    """From one θ, batch and noise, in float64: the same θ', hypergradient and losses as ``trainers``."""
    config = image_config(small_cnn(activation="relu"))
    problem = build_problem(config, image_split())
    values = {"log10_l2": -3.0, "input_noise_std": 0.4}
    point = last_point(problem, config, values, online=True)
    model = textbook.convolutional((1, 4, 4), (2, 3), 3).double()
    torch.nn.utils.vector_to_parameters(problem.network.initial(7), model.parameters())
    x, y = Order(*problem.t1, [7], Stream.T1_ORDER, 8).at(0)
    (half, *_) = Noise([7], problem.network.noise_shapes, 8, x).at(0)
    assert half is not None
    tuned = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in values.values()]
    t1, t2 = textbook.Batch(x[0], y[0]), textbook.Batch(*problem.t2)
    gradients = textbook.autograd_step(model, 0.3, t1, whole(half, 8)[0], t2, textbook.Hyperparameters(*tuned))
    assert [float(g) for g in gradients] == pytest.approx(list(point.hypergradient.values()), rel=1e-9)
    assert textbook.evaluate(model, *problem.t2)[0] == pytest.approx(point.t2_loss, rel=1e-12)


def test_packing_measures_every_size_and_says_what_it_could_not(
    report_of: ReportOf, capsys: pytest.CaptureFixture[str]
) -> None:
    report = report_of("packing", "--steps", "10", "--repeats", "2", "--largest-on-cpu", "5", "--largest-on-gpu", "2")
    for kind in packing.KINDS:
        assert list(report["runs_per_second"]["cpu"][kind]) == ["1", "2", "4"]
        assert all(rate > 0 for rate in report["runs_per_second"]["cpu"][kind].values())
    assert report["cpu"]["ratio_to_textbook"][packing.TEXTBOOK]["1"]["median"] == 1
    printed = capsys.readouterr().out
    assert "times the textbook" in printed
    if torch.cuda.is_available():
        assert set(report["runs_per_second"]) == {"cpu", "cuda"}
    else:
        assert set(report["runs_per_second"]) == {"cpu"}
        assert "no GPU figure was measured" in printed


def test_a_pack_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes above the first that is refused are not tried, and the report says why."""

    def refuse(problem: Problem, config: TrainConfig, members: int, online: bool) -> float:
        if members > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nmore")
        return float(members)

    monkeypatch.setattr(packing, "packed", refuse)
    report = packing.measure("cpu", steps=1, largest=8, repeats=1)
    for kind in packing.KINDS:
        assert report["runs_per_second"][kind] == {"1": 1.0, "2": 2.0}
        assert report["did_not_fit"][kind] == "P = 4: CUDA out of memory. Tried to allocate 1 GiB"


def test_sizes_double() -> None:
    assert packing.sizes(1) == [1]
    assert packing.sizes(20) == [1, 2, 4, 8, 16]


WORKER_THAT_NOBODY_WAITS_FOR = """
import signal, subprocess, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
work = "import time\\nwhile time.process_time() < 0.5: pass\\ntime.sleep(1)"
subprocess.Popen([sys.executable, "-c", work]).wait()
"""


def test_the_work_of_processes_that_their_parent_does_not_wait_for_is_counted() -> None:
    """As Ray's workers are: the operating system would not tell of them."""
    found = usage([sys.executable, "-c", WORKER_THAT_NOBODY_WAITS_FOR])
    assert found.cpu_s >= 0.5
    assert found.wall_s >= 1


def test_a_command_that_fails_is_told_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        usage([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_rows_that_are_not_equal_to_the_last_bit_are_refused() -> None:
    nan = float("nan")
    first = [[0.1, 0.2, 0.3, 0.4, 0.5], [nan, nan, 0.3, 0.4, 0.5]]
    again = [[0.1, 0.2, 0.3, 0.4, 0.5], [nan, nan, 0.3, 0.4, 0.5]]
    real.check_equal([("pool", first), ("Tune", again)])
    again[1][3] = math.nextafter(0.4, 1)
    with pytest.raises(SystemExit, match=r"run 1: test_loss is 0\.40*\d+ by Tune, and 0\.4 by pool"):
        real.check_equal([("pool", first), ("Tune", again)])
    with pytest.raises(SystemExit, match="Tune has 1 runs, and pool has 2"):
        real.check_equal([("pool", first), ("Tune", first[:1])])


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it starts Ray six times
def test_the_real_job_is_the_same_by_everybody(report_of: ReportOf, capsys: pytest.CaptureFixture[str]) -> None:
    needs_optuna()
    report = report_of("real", "--runs", "5", "--steps", "30", "--repeats", "1")
    assert report["seconds"].keys() == report["times_the_floor"].keys() == real.ROWS.keys()
    for seconds in report["seconds"].values():
        assert seconds.keys() == {"wall_job", "cpu_job", "wall_start", "cpu_start"}
        assert all(len(row["repeats"]) == 1 and row["median"] > 0 for row in seconds.values())
    assert report["times_the_floor"][FLOOR]["cpu"]["median"] == 1
    pool, further = report["seconds"][FLOOR], report["ms_of_a_further_run"][FLOOR]["wall"]["median"]
    assert further == pytest.approx(1000 * (pool["wall_job"]["median"] - pool["wall_start"]["median"]) / (5 - 2))
    assert report["largest_relative_difference_of_packs"] < 1e-3
    printed = capsys.readouterr().out
    assert all(row in printed for row in real.ROWS)


@pytest.mark.slow
@pytest.mark.parametrize("part", scale.OF_TUNE)
def test_trials_of_tune_that_do_nothing_are_measured(part: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    found = scale.measure(part.__name__, tmp_path, 5)
    assert found["runs"] == 5
    assert found["driver_cpu_ms_per_run"] > 0
    assert 0 < found["overhead_ms_per_run"] < 1000 * found["process_s"] / 5
    written = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert ("progress.csv" in written) is (part is ray_tune)


@pytest.mark.parametrize("part", scale.OF_OPTUNA)
def test_trials_of_optuna_that_do_nothing_are_measured(part: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    needs_optuna()
    found = scale.measure(part.__name__, tmp_path, 5)
    assert found["runs"] == 5
    assert 0 < found["overhead_ms_per_run"] < 1000 * found["process_s"] / 5
