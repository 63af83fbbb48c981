"""Execute the notebooks of ``deploy/notebooks``, each in a fresh kernel; ``make notebooks`` writes them anew.

A kernel is this very interpreter with this checkout's packages. It works in a temporary directory, beside which the
published studies are found as from ``deploy/notebooks``; what a notebook writes stays there and goes with it.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets import default
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "deploy" / "notebooks").glob("*.ipynb"))
LIMIT_S = 600  # for each cell, on a machine that is busy
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class OwnKernel(AsyncKernelManager):
    """A kernel of this interpreter, whatever kernels are installed on this machine under the same name."""

    @default("kernel_spec_manager")
    def _no_installed_ones(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[], parent=self)


def executed(path: Path, place: Path) -> NotebookNode:
    """The notebook at ``path`` with the outputs of a fresh kernel, which may write below ``place``.

    Raises :class:`nbclient.exceptions.CellExecutionError` where a cell fails.
    """
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    folder = place / "notebooks"
    folder.mkdir()
    (place / "studies").symlink_to(ROOT / "deploy" / "studies")
    environment = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "RAY_ADDRESS")}
    environment |= {"PYTHONPATH": str(ROOT), "IPYTHONDIR": str(place / "ipython")}
    connection = Config(KernelManager={"connection_file": str(place / "kernel.json")})
    client = NotebookClient(
        notebook,
        timeout=LIMIT_S,
        record_timing=False,
        coalesce_streams=True,  # what a cell prints comes in pieces, cut by the clock
        kernel_manager_class=OwnKernel,
        resources={"metadata": {"path": str(folder)}},
        config=connection,
    )
    client.execute(env=environment)
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":  # what libraries say on stderr is of this machine: its paths, what it lacks
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def texts(notebook: NotebookNode) -> list[list[Any]]:
    """What each code cell printed and returned as text, and of which kinds its other outputs are."""
    shown = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    return [
        [(output.get("text") or output.data.get("text/plain"), sorted(output.get("data", {}))) for output in outputs]
        for outputs in shown
    ]


def main() -> None:
    """Write every notebook anew."""
    for path in NOTEBOOKS:
        with tempfile.TemporaryDirectory() as place:
            nbformat.write(executed(path, Path(place)), path)
        print(f"{path.relative_to(ROOT)} ({path.stat().st_size // 1024} KB)")


if __name__ == "__main__":
    main()
