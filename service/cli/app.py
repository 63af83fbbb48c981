"""The command line ``t1t2``: its families of commands, and what becomes of their errors.

Exit codes: 0, 1 (something failed), 2 (bad input), 3 (taken over), 130 (interrupted). Ray, torch, pandas, rich and the
analysis are imported by the commands that need them, so that ``t1t2 --help`` and ``t1t2 status`` answer at once.
"""

from __future__ import annotations

import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from service.cli import baselines, doctor, export, fetch, import_, look, results, run, serve, steer, submit, verify
from service.cli.console import BAD_INPUT, FAILED, INTERRUPTED, TAKEN_OVER, print_error, with_short_words
from service.errors import StorageError, StudyError, TakenOverError

UsageError: Any = typer.BadParameter.__base__  # a wrong command line; Typer exports no name for it
# The order of ``t1t2 --help``, and of the table in README.md.
FAMILIES = (run, baselines, look, results, export, import_, steer, submit, serve, fetch, verify, doctor)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"t1t2 {version('t1t2-study')}")
        raise typer.Exit


app = typer.Typer(
    name="t1t2",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="\b\nExit codes: 0 done, 1 failed, 2 bad input, 3 taken over by another driver, 130 interrupted.\n"
    "Start here:\n"
    "  t1t2 run deploy/studies/quickstart.toml",
)


@app.callback()
def t1t2(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Large seeded studies of online hyperparameter optimisation (T1-T2) on Ray, published as Parquet."""


for family in FAMILIES:
    app.add_typer(family.commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code. Bad input is told in one message on stderr, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        again = shlex.join(["t1t2", *words])  # the command to give again after Ctrl-C
        code: int = app(args=words, prog_name="t1t2", obj=again, standalone_mode=False) or 0
        sys.stdout.flush()  # here, where it is known what becomes of a pipe that is closed
        return code
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # rich has met it and given up
            return _has_seen_enough()
        return end.code if isinstance(end.code, int) else FAILED
    except UsageError as error:
        message = io.StringIO()
        error.show(message)
        sys.stderr.write(with_short_words(message.getvalue()))
        return BAD_INPUT
    except TakenOverError as error:
        print_error(error)
        return TAKEN_OVER
    except StudyError as error:
        print_error(error)
        return BAD_INPUT
    except StorageError as error:
        print_error(error)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        return _has_seen_enough()


def _has_seen_enough() -> int:
    """The exit code where the reader of a pipe, as in `t1t2 results … | head`, has closed it: nothing went wrong."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes nowhere
    return 0
