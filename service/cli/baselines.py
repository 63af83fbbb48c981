"""The command ``baselines``: rivals of T1-T2 at equal compute, beside a study."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated

import typer

from service.cli.console import FAILED, STUDIES, JsonOption, SpecArgument, example, print_doubts, print_json

commands = typer.Typer()


@commands.command(epilog=example("t1t2 baselines deploy/studies/baselines/digits.toml --processes 2"))
def baselines(
    context: typer.Context,
    spec: SpecArgument,
    out: Annotated[
        str | None, typer.Option(metavar="DIR", help="Directory or URI of the study; by default studies/NAME.")
    ] = None,
    repetitions: Annotated[int, typer.Option(help="Searches by each method, for each model.")] = 20,
    trainings: Annotated[
        int, typer.Option(help="What a search may spend, in trainings with fixed hyperparameters.")
    ] = 16,
    methods: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Some of the methods, with commas between; by default all.")
    ] = None,
    processes: Annotated[int, typer.Option(help="Searches at a time, each on one core of this machine.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Run rivals of T1-T2 at equal compute, beside a study.

    Random search, ASHA, Hyperband, TPE with and without ASHA, and populations run by Ray Tune; T1-T2 by the spec's
    estimator and by one step. All have the same starts and may spend the same. The same command again goes on; more
    repetitions or methods are added to what is there. The tables lie in DIR/baselines: `t1t2 report DIR/baselines`
    shows them, and so does the report of the study in DIR.
    """
    from service.records.progress import study_uri
    from service.spec.study_spec import load_spec
    from service.tune.baselines.methods import METHODS
    from service.tune.baselines.run import run_baselines
    from service.tune.baselines.search import Search

    def show(done: int, planned: int, search: Search | None) -> None:
        what = f"{search.method}, {search.model}, repetition {search.repetition}" if search else "searches done"
        print(f"{done:,} of {planned:,}: {what}", file=sys.stderr)

    study = load_spec(spec)
    print_doubts(study)
    names = list(METHODS) if methods is None else [name.strip() for name in methods.split(",") if name.strip()]
    uri = out or study_uri(STUDIES, study.name)
    try:
        found = run_baselines(
            study,
            uri,
            methods=names,
            repetitions=repetitions,
            trainings=trainings,
            processes=processes,
            on_progress=show,
        )
    except KeyboardInterrupt:
        print(f"interrupted; what has ended is kept. Go on with:\n  {context.obj}", file=sys.stderr)
        raise
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print(f"{found.searches:,} searches, {found.ran:,} of them now: {found.uri}")
        print(f"see them:  t1t2 report {found.uri}")
    if found.failed:
        print(
            f"{found.failed:,} trainings failed: t1t2 results {found.uri} --query \"status == 'failed'\"",
            file=sys.stderr,
        )
        raise typer.Exit(FAILED)
