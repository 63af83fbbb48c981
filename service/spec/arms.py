"""The arms of a study: what is done with each of its configurations. A new arm is one entry of :data:`ARMS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What distinguishes the trainings of one arm from those of another."""

    name: str  # as in specs and tables; part of what a run's id is a hash of
    tuned: bool = False  # whether outer steps change the hyperparameters during training
    follows: str | None = None  # its runs wait for those of this arm, and start from their final hyperparameters
    on_grid: bool = False  # whether it has a run for each cell of the grid, in place of one for each configuration
    priority: int = 0  # of the arms that need not wait for others, the lowest starts first


# In the order of the published tables. Runs on the grid stand behind those of the configurations.
ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm(name="initial", priority=1),
        Arm(name="online", tuned=True),
        Arm(name="rerun", follows="online"),
        Arm(name="grid", on_grid=True),
    )
}

# A type checker cannot read the names out of the table; a spec is checked against them when it is read.
if TYPE_CHECKING:
    ArmName = str
else:
    ArmName = Literal[tuple(ARMS)]
