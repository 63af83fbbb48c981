"""The names that a hyperparameter of the user's own must not have, because the tables give them a meaning."""

from __future__ import annotations

from collections.abc import Iterable

from service.errors import SpecError
from trainers.bounds import require
from trainers.config import LOOK_UP

BUILT_IN = ("log10_l2", "input_noise_std", "hidden_noise_std", "label_smoothing")
# The columns of the published tables; ``tests/service/spec/test_names.py`` compares them with the schemas.
COLUMNS = {
    "run_id", "config_index", "arm", "replicate", "model", "dataset", "status", "seed", "t1_loss", "t2_loss",
    "t2_error", "test_loss", "test_error", "steps", "train_time_s", "attempt", "error", "step", "outcome",
    "node_id", "node_ip", "device", "pid", "started_at", "finished_at",
}  # fmt: skip
MEMBER = "member"  # stands beside the hyperparameters in what a worker sends
PREFIXES = ("hypergradient_", *BUILT_IN)  # of derived columns, and of the layers' and groups'
SUFFIXES = ("_initial", "_final")


def check_custom_names(references: Iterable[str]) -> None:
    """Raise :class:`SpecError` for a custom regulariser whose name would be read as something else in the tables.

    SQL does not tell upper from lower case, so neither does this.
    """
    for reference in references:
        name = reference.partition(LOOK_UP)[2].lower()
        free = name not in COLUMNS and name != MEMBER and not name.startswith(PREFIXES) and not name.endswith(SUFFIXES)
        require(
            free,
            "hyperparameters.custom",
            reference,
            "named by an attribute that is no column of the tables (such as run_id, step or t2_loss), begins with none "
            f"of {', '.join(PREFIXES)} and ends with none of {', '.join(SUFFIXES)}; it names the regulariser's columns",
            SpecError,
        )
