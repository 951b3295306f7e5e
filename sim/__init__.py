"""Engines that run programs; comparison, report and the command line."""

from sim.run import Run

__all__ = ["Run"]
