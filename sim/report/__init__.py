"""Reports: counts x prices by cause, agreement, losses, provenance; as JSON, in the terminal, as one HTML file."""

from sim.report.build import MachineResult, Report, build_report
from sim.report.html import page
from sim.report.layers import network_layers
from sim.report.runs import report_runs
from sim.report.terminal import show

__all__ = ["MachineResult", "Report", "build_report", "network_layers", "page", "report_runs", "show"]
