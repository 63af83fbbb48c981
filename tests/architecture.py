"""Draw the architecture from the real imports; ``python -m tests.architecture`` writes ``.github/architecture.svg``.

Each package is a frame, each of its rooms (a folder, or a file beside the folders) a box. The floors are those of the
layers contracts in ``pyproject.toml``. An arrow says that a room imports another; where a chain of other arrows says so
already, it is left out. An arrow that passes a floor has a place among the boxes of that floor, so that none is hidden.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / ".github" / "architecture.svg"
PACKAGES = ("analysis", "service", "trainers")  # from left to right
SWEEPS = 8  # passes over the floors that order their boxes; a few settle it

BOX_WIDTH, BOX_HEIGHT, GAP, FLOOR_HEIGHT, PASSAGE = 126, 30, 14, 74, 16
MARGIN, TITLE, BETWEEN = 20, 44, 96

STYLE = """
  .card { fill: #ffffff; } .frame { fill: #f6f8fa; stroke: #d0d7de; } .room { fill: #ffffff; stroke: #8c959f; }
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; text-anchor: middle; }
  .name { font-weight: 600; font-size: 16px; } .note { fill: #59636e; font-size: 12px; }
  .arrow { fill: none; stroke: #0969da; stroke-opacity: 0.75; stroke-width: 1.3; marker-end: url(#head); }
  .across { stroke-width: 2; } .files { stroke-dasharray: 5 4; } .head { fill: #0969da; }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; } .frame { fill: #151b23; stroke: #3d444d; } .room { fill: #0d1117; stroke: #656c76; }
    text { fill: #f0f6fc; } .note { fill: #9198a1; } .arrow { stroke: #4493f8; } .head { fill: #4493f8; }
  }
"""

Edge = tuple[str, str]


class Passage(NamedTuple):
    """Where an arrow crosses a floor on which it does not end."""

    edge: Edge
    floor: int


Slot = str | Passage


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A package, laid out: what stands on each floor, its middle, and the stations of the arrows from the top down."""

    name: str
    floors: list[list[Slot]]
    middles: dict[Slot, float]
    paths: list[list[Slot]]
    width: float


def floors_of(package: str) -> list[list[str]]:
    """The rooms of each floor by the package's layers contract, from the top down."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == [package])
    return [[room.strip(" ()") for room in layer.split("|")] for layer in layers]


def rooms_imported(graph: grimp.ImportGraph, package: str, rooms: Iterable[str]) -> set[Edge]:
    """Who imports whom among the rooms of a package."""
    names = {room: f"{package}.{room}" for room in rooms if f"{package}.{room}" in graph.modules}
    return {
        (above, below)
        for above, importer in names.items()
        for below, imported in names.items()
        if above != below and graph.direct_import_exists(importer=importer, imported=imported, as_packages=True)
    }


def without_implied(edges: set[Edge]) -> set[Edge]:
    """The edges that no longer path stands for (the transitive reduction)."""

    def reach(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = {below for above, below in edges if above == waiting[-1]} - found
            waiting.pop()
            found |= new
            waiting += sorted(new)
        return found

    return {
        (above, below)
        for above, below in edges
        if not any(below in reach(other) for start, other in edges if start == above and other != below)
    }


def laid_out(package: str, graph: grimp.ImportGraph) -> Drawing:
    """Give every room and passage its place."""
    floors: list[list[Slot]] = [
        [room for room in floor if f"{package}.{room}" in graph.modules] for floor in floors_of(package)
    ]
    floors = [floor for floor in floors if floor]
    height = {room: number for number, floor in enumerate(floors) for room in floor}
    edges = rooms_imported(graph, package, (str(room) for room in height))
    paths: list[list[Slot]] = []
    for edge in sorted(without_implied({edge for edge in edges if height[edge[0]] < height[edge[1]]})):
        between = [Passage(edge, number) for number in range(height[edge[0]] + 1, height[edge[1]])]
        paths.append([edge[0], *between, edge[1]])
        for passage in between:
            floors[passage.floor].append(passage)
    for sweep in range(SWEEPS):
        order = range(len(floors)) if sweep % 2 == 0 else reversed(range(len(floors)))
        for number in order:
            floors[number] = sorted_by_neighbours(floors[number], floors, paths)
    width = max(width_of(floor) for floor in floors) + 2 * MARGIN
    return Drawing(name=package, floors=floors, middles=middles_of(floors, width), paths=paths, width=width)


def sorted_by_neighbours(floor: list[Slot], floors: list[list[Slot]], paths: list[list[Slot]]) -> list[Slot]:
    """The floor in the order of the mean places of what its slots are joined to; ties keep their order."""
    middles = middles_of(floors, 0)
    joined: dict[Slot, list[float]] = {slot: [] for slot in floor}
    for path in paths:
        for above, below in pairwise(path):
            if above in joined:
                joined[above].append(middles[below])
            if below in joined:
                joined[below].append(middles[above])
    return sorted(floor, key=lambda slot: sum(joined[slot]) / len(joined[slot]) if joined[slot] else middles[slot])


def width_of(floor: Sequence[Slot]) -> float:
    """The width that a floor needs."""
    return sum(PASSAGE if isinstance(slot, Passage) else BOX_WIDTH for slot in floor) + GAP * (len(floor) - 1)


def middles_of(floors: list[list[Slot]], width: float) -> dict[Slot, float]:
    """The middle of every slot, each floor centred in the width."""
    found: dict[Slot, float] = {}
    for floor in floors:
        x = (width - width_of(floor)) / 2
        for slot in floor:
            size = PASSAGE if isinstance(slot, Passage) else BOX_WIDTH
            found[slot] = x + size / 2
            x += size + GAP
    return found


def frame(drawing: Drawing, left: float, height: float) -> list[str]:
    """The package's frame, boxes and arrows, as lines of SVG."""
    top = {number: TITLE + MARGIN + number * FLOOR_HEIGHT for number in range(len(drawing.floors))}
    floor_of = {slot: number for number, floor in enumerate(drawing.floors) for slot in floor}
    lines = [
        f'<rect class="frame" x="{left:g}" y="{MARGIN}" width="{drawing.width:g}" height="{height:g}" rx="8"/>',
        f'<text class="name" x="{left + drawing.width / 2:g}" y="{MARGIN + 28}">{drawing.name}</text>',
    ]
    for path in drawing.paths:
        x, y = left + drawing.middles[path[0]], top[floor_of[path[0]]] + BOX_HEIGHT
        curve = f"M{x:.1f},{y:.1f}"
        for slot in path[1:]:
            below, floor = left + drawing.middles[slot], top[floor_of[slot]]
            bend = (floor - y) / 2
            curve += f" C{x:.1f},{y + bend:.1f} {below:.1f},{floor - bend:.1f} {below:.1f},{floor:.1f}"
            x, y = below, floor
            if isinstance(slot, Passage):
                y = floor + BOX_HEIGHT
                curve += f" V{y:.1f}"
        lines.append(f'<path class="arrow" d="{curve}"/>')
    for slot, number in floor_of.items():
        if isinstance(slot, str):
            x, y = left + drawing.middles[slot], top[number]
            corner = f'x="{x - BOX_WIDTH / 2:g}" y="{y}"'
            lines.append(f'<rect class="room" {corner} width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>')
            lines.append(f'<text x="{x:g}" y="{y + 20}">{slot}</text>')
    return lines


def across(start: float, end: float, y: float, note: str, kind: str = "across") -> list[str]:
    """An arrow from frame to frame, with what it stands for above it."""
    return [
        f'<path class="arrow {kind}" d="M{start:g},{y:g} H{end:g}"/>',
        f'<text class="note" x="{(start + end) / 2:g}" y="{y - 8:g}">{note}</text>',
    ]


def picture() -> str:
    """The whole picture as SVG."""
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    drawings = [laid_out(package, graph) for package in PACKAGES]
    height = TITLE + max(len(drawing.floors) for drawing in drawings) * FLOOR_HEIGHT
    lefts = [MARGIN + sum(before.width + BETWEEN for before in drawings[:number]) for number in range(len(drawings))]
    lines = [line for drawing, left in zip(drawings, lefts, strict=True) for line in frame(drawing, left, height)]
    analysis, service = (
        left + drawing.width for drawing, left in zip(drawings[:2], lefts, strict=False)
    )  # right edges
    lines += across(analysis, lefts[1], MARGIN + 24, "reads Parquet", "across files")
    lines += across(lefts[1], analysis, MARGIN + 64, "one file asks")
    lines += across(service, lefts[2], MARGIN + 24, "trains with")
    width = lefts[-1] + drawings[-1].width + MARGIN
    whole = height + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {whole:g}" role="img">',
            "<title>The rooms of the three packages, and which imports which</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto" '
            'markerUnits="userSpaceOnUse"><path class="head" d="M0,0 L9,4 L0,8 Z"/></marker></defs>',
            f'<rect class="card" width="{width:g}" height="{whole:g}" rx="10"/>',
            *lines,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
