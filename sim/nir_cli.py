"""What a command line must say of a ``.nir`` file: options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Dt = Annotated[float | None, typer.Option(help="A .nir file's seconds per step (spikingjelly, snnTorch: 1e-4).")]
Reset = Annotated[str | None, typer.Option(help="A .nir file's reset: hard (to v_reset) or soft (subtract).")]
Fires = Annotated[str | None, typer.Option(help="A .nir file's spike: '>' (NIR, snnTorch) or '>=' (spikingjelly).")]
Discretization = Annotated[
    str | None, typer.Option(help="A .nir file's steps: euler (spikingjelly, snnTorch, Norse) or exact (exponential).")
]

Float32 = Annotated[bool, typer.Option("--float32", help="Round a .nir file's weights to float32, as onnx needs.")]


def nir_options(
    dt: float | None, reset: str | None, fires: str | None, discretization: str | None, float32: bool
) -> dict[str, Any]:
    """Arguments of :func:`export.from_nir.from_nir` that were given."""
    given = {"dt_s": dt, "reset": reset, "fires": fires, "discretization": discretization}
    return {k: v for k, v in given.items() if v is not None} | ({"float32": True} if float32 else {})
