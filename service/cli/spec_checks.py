"""``t1t2 doctor --spec``: can the study of this spec begin here? It is tried, as far as nothing is made by it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.cli.checks import Check, check_data, probe
from service.driver.rehearsal import references
from service.errors import SpecError

if TYPE_CHECKING:
    from service.spec.study_spec import StudySpec

ACTORS_PROBE = """
import json, sys
from service.errors import StudyError
from service.executors.ray_cluster import Cluster
from service.spec.execution import ExecutionConfig
cluster = Cluster(ExecutionConfig(**json.loads(sys.argv[1])), None)
try:
    cluster.connect(lambda *_: None)
except StudyError as error:
    print(json.dumps({"problem": str(error)}))
else:
    print(json.dumps({"room": cluster.room_for_actors()}))
cluster.disconnect()
"""


def examine_spec(spec: StudySpec) -> Iterator[Check]:
    """The user's code, the plan, the data and the actors of ``spec``, one after the other."""
    code = check_code(spec)
    yield code
    if code.status != "failed" or all(named.setting == "trainer" for named in references(spec)):
        yield check_plan(spec)  # to plan a study may be to call the user's data and models, in this process
        if spec.trainer == "t1t2":  # another has its own data
            yield check_data("data of the spec", dataclasses.asdict(spec.data))
    yield check_actors(spec)


def check_code(spec: StudySpec) -> Check:
    """Can the modules and functions that the spec names be imported and called?"""
    from service.driver.rehearsal import rehearse

    name = "code of the spec"
    try:
        rehearse(spec)
    except SpecError as error:
        return Check(name, "failed", str(error), "correct the module or the reference; a study would be refused for it")
    named = references(spec)
    return Check(name, "ok", f"tried: {', '.join(map(str, named))}" if named else "the spec names none of your own")


def check_plan(spec: StudySpec) -> Check:
    """Is there a study of this spec: do the grid's axes exist, does a network fit this machine?"""
    from service.spec.fits import check_machine, check_reserved
    from service.spec.plan import make_plan

    try:
        check_reserved(spec)
        plan = make_plan(spec)
        if not os.environ.get("RAY_ADDRESS"):
            check_machine(spec)
    except SpecError as error:
        return Check("plan of the spec", "failed", str(error), "correct the spec; a study would be refused for it")
    counts = ", ".join(f"{count:,} {arm}" for arm, count in plan.planned().items())
    return Check("plan of the spec", "ok", f"{sum(plan.planned().values()):,} runs ({counts})")


def check_actors(spec: StudySpec) -> Check:
    """Can a node of the cluster at ``$RAY_ADDRESS``, or else this machine, hold an actor?"""
    execution = dataclasses.replace(spec.execution, resource_timeout_s=0.0)
    answer = probe(ACTORS_PROBE, json.dumps(dataclasses.asdict(execution)))
    found = answer if isinstance(answer, str) else answer.get("problem")
    if found is not None:
        repair = "ask for less in [execution], or set RAY_ADDRESS to a cluster that has nodes for it"
        return Check("actors of the spec", "failed", found, repair)
    assert not isinstance(answer, str)
    where = os.environ.get("RAY_ADDRESS") or "this machine"
    return Check("actors of the spec", "ok", f"{answer['room']} on {where}")
