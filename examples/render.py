"""Render a zoom into the Mandelbrot set: one branch a frame, each written as a PNG. Pure Python, no extra needed.

A frame is a step whose effect is a file. The step may run again if the program dies before it is recorded, so it is
written to be repeated: the picture goes to a temporary name and is moved into its place at the end.

    durapool run examples/render.py:handler --executor process --id zoom --input '{"folder": "frames", "frames": 60}'
"""

from __future__ import annotations

import os
import struct
import zlib
from math import log, log2, sin
from pathlib import Path
from typing import Any

from command_line import main
from durapool import DurableContext, MapConfig, durable_execution

CENTRE = (-0.743643887037151, 0.131825904205330)
FRAMES, WIDTH, HEIGHT, LIMIT = 24, 320, 200, 400
ZOOM = 1.5  # from one frame to the next
OUTSIDE = 1000.0  # |z| from which the colour is smooth


@durable_execution
def handler(event: dict[str, Any] | None, context: DurableContext) -> dict[str, Any]:
    """Render. Event keys, all optional: `folder`, `frames`, `width`, `height`, `limit` (iterations a point)."""
    event = event or {}
    folder = Path(event.get("folder") or "frames").absolute()
    size = event.get("width") or WIDTH, event.get("height") or HEIGHT
    limit = event.get("limit") or LIMIT

    def frame(ctx: DurableContext, number: int, index: int, inputs: Any) -> str:
        return ctx.step(lambda _: render(folder / f"{number:04}.png", ZOOM**-number, size, limit), name="render")

    rendered = context.map(
        range(event.get("frames") or FRAMES),
        frame,
        name="frames",
        config=MapConfig(item_namer=lambda number, _: f"frame-{number:04}"),
    )
    rendered.throw_if_error()
    return {"folder": str(folder), "files": rendered.get_results()}


def render(path: Path, scale: float, size: tuple[int, int], limit: int) -> str:
    """Render one frame into a file and return the file's name."""
    width, height = size
    rows = []
    for y in range(height):
        imaginary = CENTRE[1] + (y / height - 0.5) * 2.5 * scale
        row = (
            colour(CENTRE[0] + (x / width - 0.5) * 2.5 * scale * width / height, imaginary, limit) for x in range(width)
        )
        rows.append(b"".join(row))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(png(width, rows))
    temporary.replace(path)
    return path.name


def colour(real: float, imaginary: float, limit: int) -> bytes:
    """Red, green and blue of one point: black inside the set, outside by how fast the point leaves."""
    c = complex(real, imaginary)
    z = 0j
    for count in range(limit):
        z = z * z + c
        if abs(z) > OUTSIDE:
            smooth = count + 1 - log2(log(abs(z)))
            return bytes(int(127.5 + 127.5 * sin(0.15 * smooth + phase)) for phase in (3.0, 3.6, 4.2))
    return b"\0\0\0"


def png(width: int, rows: list[bytes]) -> bytes:
    """A PNG file of rows of RGB bytes."""
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows), 6)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    main(handler, __doc__)
