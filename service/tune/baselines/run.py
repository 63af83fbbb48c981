"""Rivals beside a study: the plan of their searches, what is done already, and the tables at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from service.errors import AnotherStudyError, StudyError, StudyNotFoundError
from service.ledger.publish import discard_shards
from service.ledger.shards import Ledger, TableFile
from service.records.clock import now
from service.records.manifest import BASELINES, MANIFEST, Manifest, find_study, read_study
from service.records.progress import write_completed
from service.records.provenance import provenance
from service.spec.plan import STREAMS, Plan, make_plan
from service.spec.study_spec import StudySpec, digest
from service.storage.checked_json import dumps_checked
from service.storage.files import Storage, open_storage
from service.storage.lease import Lease
from service.tune.baselines import methods as rivals
from service.tune.baselines.methods import METHODS, Method
from service.tune.baselines.search import Search
from service.tune.baselines.tables import commit, finished, publish, table_schemas
from service.tune.baselines.trials import Trial
from service.tune.baselines.workers import run_searches
from service.tune.training import train_config
from trainers.config import EstimatorName
from trainers.costs import Costs, measure_costs
from trainers.errors import quoted
from trainers.problem import load_problem

LEAST_REPETITIONS, MOST_REPETITIONS = 2, 10_000
MOST_TRAININGS = 10_000
ONE_STEP: EstimatorName = "t1t2"  # the estimator that is compared beside the spec's own
Progress = Callable[[int, int, Search | None], None]  # searches done, planned, and the one that has just ended


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """What has been run: where its tables are, and how many searches it holds."""

    uri: str
    searches: int
    ran: int  # of them, by this call
    failed: int  # trainings that raised an exception


def run_baselines(
    spec: StudySpec,
    study: str,
    *,
    methods: Sequence[str] = tuple(METHODS),
    repetitions: int = 20,
    trainings: int = 16,
    processes: int = 1,
    on_progress: Progress = lambda done, planned, search: None,
) -> Baselines:
    """Run rivals of T1-T2, and T1-T2 beside them, below the directory or URI ``study``; or go on with them.

    Each method has ``repetitions`` searches for each model of the spec, and a search may spend as much compute as
    ``trainings`` trainings with fixed hyperparameters. A search that is done is not run again.

    Raises:
        StudyError: a name or a number is not allowed, or the place holds something else. Nothing is written.
    """
    chosen = _checked(methods, repetitions, trainings, processes)
    for config in spec.train_configs():
        train_config(spec, config.model.label)
    storage = open_storage(f"{study.rstrip('/')}/{BASELINES}")
    find_study(spec, open_storage(study))
    for method in chosen:
        rivals.check_installed(method)
    lease = Lease(storage)
    keep = storage.nearest_directory()
    lease.acquire()
    begun = False
    try:
        plan = make_plan(spec, pack_size=1)
        manifest, about = _begun(plan, storage, trainings)
        begun = True
        ledger = Ledger(
            storage.fenced(lease.check), plan, study_hash=manifest.study_hash, table_schemas=table_schemas(plan.names)
        )
        return _run(
            ledger, manifest, about, _searches(plan, chosen, repetitions, trainings, about), processes, on_progress
        )
    finally:
        lease.release(forget=not begun)
        storage.remove_empty(keep=keep)


def _checked(methods: Sequence[str], repetitions: int, trainings: int, processes: int) -> list[Method]:
    for name in methods:
        if name not in METHODS:
            raise StudyError(f"methods = {quoted(name)}: must be among {', '.join(METHODS)}")
    if not methods or len(set(methods)) < len(methods):
        raise StudyError(f"methods = {list(methods)}: must be one or more of {', '.join(METHODS)}, each once")
    for name, value, least, most in (
        ("repetitions", repetitions, LEAST_REPETITIONS, MOST_REPETITIONS),
        ("trainings", trainings, 1, MOST_TRAININGS),
        ("processes", processes, 1, MOST_REPETITIONS),
    ):
        if not least <= value <= most:
            raise StudyError(f"{name} = {value}: must be at least {least} and at most {most:,}")
    return [METHODS[name] for name in methods]


def _begun(plan: Plan, storage: Storage, trainings: int) -> tuple[Manifest, dict[str, Any]]:
    """The manifest, and what ``study.json`` says of the rivals: as it stands there, or of a new beginning."""
    problems = [load_problem(config) for config in plan.configs]
    settings = {
        "spec": plan.spec.hash,
        "data_hash": problems[0].data_hash,
        "trainings": trainings,
        "settings": {
            "points": rivals.POINTS,
            "asha_reduction_factor": rivals.REDUCTION,
            "hyperband_reduction_factor": rivals.BRACKET_REDUCTION,
            "pbt_perturbation_points": rivals.PERTURBATION_POINTS,
            "pbt_quantile_fraction": rivals.QUANTILE,
            "tpe_startup_trials": rivals.STARTUP_TRIALS,
        },
    }
    try:
        content = read_study(storage.uri)
        if BASELINES not in content:
            raise StudyError(f"{storage.uri}: holds a study, and no baselines; give another directory")
        about: dict[str, Any] = content[BASELINES]
        differing = [key for key, value in settings.items() if about[key] != value]
        if differing:
            lines = [f"{key}: {settings[key]} here, {about[key]} there" for key in differing]
            raise AnotherStudyError(
                f"{storage.uri}: holds other baselines; give another directory. These differ:", lines
            )
        return Manifest.load(storage), about
    except StudyNotFoundError:
        pass
    costs = {}
    for config, problem in zip(plan.configs, problems, strict=True):
        own = measure_costs(problem, config)
        one_step = measure_costs(problem, replace(config, outer=replace(config.outer, estimator=ONE_STEP)))
        costs[config.model.label] = asdict(own) | {ONE_STEP: one_step.online}
    about = settings | {"costs": costs}
    manifest = Manifest(
        study_hash=digest([BASELINES, about]),
        spec=plan.spec.to_dict(),
        pack_size=1,
        seeds={"study": plan.spec.seed, "streams": STREAMS},
        created_at=now(),
        provenance=provenance() | {"data_hash": problems[0].data_hash, "threads": 1, BASELINES: plan.spec.hash},
        planned={},
    )
    _save(storage, manifest, about)
    return manifest, about


def _save(storage: Storage, manifest: Manifest, about: dict[str, Any]) -> None:
    storage.write(MANIFEST, dumps_checked(asdict(manifest) | {BASELINES: about}, indent=1))


def _searches(
    plan: Plan, methods: Sequence[Method], repetitions: int, trainings: int, about: dict[str, Any]
) -> list[Search]:
    """All of them, repetition by repetition, so that what has run so far compares all methods."""
    searches = []
    for repetition in range(repetitions):
        for label in plan.labels:
            found = about["costs"][label]
            for method in methods:
                online = found[ONE_STEP] if method.estimator == ONE_STEP else found["online"]
                costs = Costs(step_s=found["step_s"], online=online, evaluation=found["evaluation"])
                searches.append(
                    Search(
                        spec=plan.spec,
                        model=label,
                        method=method.name,
                        repetition=repetition,
                        trainings=trainings,
                        costs=costs,
                    )
                )
    return searches


def _run(
    ledger: Ledger,
    manifest: Manifest,
    about: dict[str, Any],
    searches: list[Search],
    processes: int,
    on_progress: Progress,
) -> Baselines:
    done = finished(ledger)
    left = [search for search in searches if (search.model, search.method, search.repetition) not in done]
    count = len(searches) - len(left)
    on_progress(count, len(searches), None)

    def keep(search: Search, trials: list[Trial]) -> None:
        nonlocal count
        commit(ledger, search, trials)
        count += 1
        on_progress(count, len(searches), search)

    run_searches(left, processes, keep)
    published = publish(ledger)
    arms, statuses = _counts(ledger)
    manifest = replace(manifest.with_tables(published), planned=dict(arms))
    _save(ledger.storage, manifest, about)
    write_completed(ledger.storage, manifest, statuses, now())
    discard_shards(ledger)
    return Baselines(uri=ledger.storage.uri, searches=len(searches), ran=len(left), failed=statuses["failed"])


def _counts(ledger: Ledger) -> tuple[Counter[str], Counter[str]]:
    """How many runs each arm has, and each status, in the published table."""
    rows = ledger.read(TableFile("runs"), ["arm", "status"])
    return Counter(rows["arm"].to_pylist()), Counter(rows["status"].to_pylist())
