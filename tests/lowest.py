"""Print the lowest versions that ``pyproject.toml`` allows, as constraints for pip: ``python tests/lowest.py [TORCH]``.

Needs the standard library alone: it runs in an environment that is still empty. A version of torch given as argument
takes the place of the lowest, for machines that cannot have that one.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("aws", "mlflow", "notebook", "optuna", "tensorboard", "test", "wandb")
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[a-z,]+\])?(?:>=|~=)([0-9.]+)(?:,<[0-9.]+)?")


def lowest() -> dict[str, str]:
    """The lowest version of every direct requirement, the extras' too."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in project["optional-dependencies"][extra])]
    found = {line: REQUIREMENT.fullmatch(line) for line in lines}
    if unbounded := [line for line, match in found.items() if match is None]:
        raise ValueError(f"pyproject.toml: no lower bound is read from {', '.join(unbounded)}")
    return {match[1]: match[2] for match in found.values() if match is not None}


if __name__ == "__main__":
    torch = {"torch": sys.argv[1]} if len(sys.argv) > 1 else {}
    print("\n".join(f"{name}=={version}" for name, version in (lowest() | torch).items()))
