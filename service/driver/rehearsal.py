"""The user's own code, tried in a process of its own before anything is made of a study.

A module that a spec names may exit, loop or crash as soon as it is imported, and so may the functions in it. In the
driver's own process that would end the driver, or hold it for ever. So a copy of this Python, with the same path and
working directory, does first what the driver and the workers are about to do.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from service.errors import SpecError
from service.executors.received import reason
from trainers.config import LOOK_UP
from trainers.errors import LONGEST_LINE, quoted, shortened

if TYPE_CHECKING:
    from service.spec.study_spec import StudySpec
    from trainers.config import TrainConfig
    from trainers.data.split import Split

START_LIMIT_S = 300.0  # for loading Python and torch, on a machine that is busy
LOOK_EVERY_S = 0.05
PROGRAM = """
import json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from service.driver.rehearsal import perform
perform(given["spec"])
"""


class Reference(NamedTuple):
    """Something of the user's: where the spec names it, and how."""

    setting: str
    name: str

    def __str__(self) -> str:
        return f"{self.setting} = {quoted(self.name)}"


def references(spec: StudySpec) -> list[Reference]:
    """All that ``spec`` names of the user's own code."""
    named = [Reference("trainer", spec.trainer), Reference("data.name", spec.data.name)]
    named += [Reference("models.name", model.name) for model in spec.models]
    named += [Reference("hyperparameters.custom", name) for name in spec.hyperparameters.custom]
    return list(dict.fromkeys(reference for reference in named if LOOK_UP in reference.name))


def refuse_main(spec: StudySpec) -> None:
    """Raise :class:`SpecError` for what is in no module: neither workers nor a later driver could find it."""
    for reference in references(spec):
        if reference.name.partition(LOOK_UP)[0] == "__main__":
            raise SpecError(
                f"{reference}: is in the script itself, which the workers do not have; put it into a module, a file "
                "of its own, and name that"
            )


def rehearse(spec: StudySpec) -> None:
    """Import and call the user's code as a study does; raises :class:`SpecError` that says what came of it.

    The user's code gets ``execution.load_timeout_s`` at most. A spec that names none takes no time.
    """
    refuse_main(spec)
    if not references(spec):
        return
    given = json.dumps({"path": sys.path, "spec": spec.to_dict()})
    limit_s = spec.execution.load_timeout_s
    # A pipe would stay open as long as the user's children.
    with tempfile.TemporaryFile("w+", encoding="utf-8") as report:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=report,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            _hand_over(process, given)
            ended = _await(process, lambda: os.fstat(report.fileno()).st_size > 0, limit_s)
        finally:
            if process.poll() is None:  # it is late, or this process was interrupted
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        report.seek(0)
        said = [json.loads(line) for line in report.read().splitlines() if line.endswith("}")]
    if (problem := _problem(said, ended, limit_s)) is not None:
        raise SpecError(problem)


def _hand_over(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:  # of a process that has ended already
        stdin.write(text)


def _await(process: subprocess.Popen[str], has_begun: Callable[[], bool], limit_s: float) -> int | None:
    """The code with which ``process`` ends; None if it takes longer than ``limit_s`` after it has begun."""
    deadline, begun = time.monotonic() + START_LIMIT_S, False
    while time.monotonic() < deadline:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_EVERY_S)
        if not begun and has_begun():  # Python and torch are loaded, which is no affair of the user's code
            deadline, begun = time.monotonic() + limit_s, True
    return None


def _problem(said: list[dict[str, Any]], code: int | None, limit_s: float) -> str | None:
    """What went wrong in a rehearsal that wrote the lines ``said`` and ended with ``code``; None if nothing did."""
    last = said[-1] if said else {"at": f"the user's code ({sys.executable} does not start)"}
    if "error" in last:
        return str(last["error"])
    if last.get("done"):
        return None
    if code is None:
        return (
            f"{last['at']}: still running after {limit_s:g} s, the limit that execution.load_timeout_s sets; must "
            "return, or set a higher one"
        )
    ended = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended the process with code {code}"
    return f"{last['at']}: {ended}; must return, without ending the process"


def perform(values: dict[str, Any]) -> None:
    """The rehearsal itself: writes what it is at, and how it ended, to stdout; then ends this process."""
    from service.spec.study_spec import StudySpec

    with os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
        os.dup2(2, 1)  # what the user's code prints is no part of the report

        def say(**words: object) -> None:
            report.write(json.dumps(words) + "\n")
            report.flush()

        at = "the spec"
        try:
            for what, attempt in _scenes(StudySpec.from_dict(values)):
                at = what
                say(at=at)
                attempt()
            say(done=True)
        except BaseException as error:  # anything may come, sys.exit and Ctrl-C included
            say(error=_told(at, error))
        os._exit(0)  # without the user's threads and exit handlers, which may take for ever


def _scenes(spec: StudySpec) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a driver and its workers do with the user's code: a name for it, and a call."""
    from trainers.data.split import load_split
    from trainers.hyperparameters import load_regulariser
    from trainers.references import resolve

    for reference in references(spec):
        if reference.setting == "hyperparameters.custom":
            yield str(reference), partial(load_regulariser, reference.name)
        else:
            yield str(reference), partial(resolve, reference.name, reference.setting)
    custom = [Reference("hyperparameters.custom", name) for name in spec.hyperparameters.custom]
    ours = spec.trainer == "t1t2"
    built = [config for config in spec.train_configs() if LOOK_UP in config.model.name or (custom and ours)]
    if not built and not (ours and LOOK_UP in spec.data.name):
        return  # a trainer of the user's own has its own data
    found: list[Split] = []
    yield str(Reference("data.name", spec.data.name)), lambda: found.append(load_split(spec.data))
    for config in built:
        own = [Reference("models.name", config.model.name)] if LOOK_UP in config.model.name else []
        yield ", ".join(map(str, [*own, *custom])), partial(_build, config, found)


def _build(config: TrainConfig, found: list[Split]) -> None:
    from trainers.problem import build_problem

    build_problem(config, found[0])


def _told(at: str, error: BaseException) -> str:
    """What is said of an exception: the setting, the exception, and where in the user's files it comes from."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    place = _place(cause)
    where = f" (at {place})" if place else ""
    if isinstance(cause, SystemExit):
        code = 0 if cause.code is None else cause.code
        return f"{at}: exited with code {quoted(code)}{where}; must be imported and called without ending the process"
    message = str(error) if isinstance(error, ValueError) else f"{at}: raised {reason(error)}"
    return f"{message}{where}"


def _place(error: BaseException) -> str:
    """File and line of the user's code that an exception comes from; empty where it comes from none of it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    import trainers

    others = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    others += [str(Path(__file__).parents[1]), str(Path(str(trainers.__file__)).parent)]  # our own two packages
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *(f"{other}{os.sep}" for other in others)))
    ]
    return shortened(f"{frames[-1].filename}:{frames[-1].lineno}", LONGEST_LINE) if frames else ""
