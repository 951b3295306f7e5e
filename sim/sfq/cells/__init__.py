"""The cell library by simulation: benches, machines, times, margins; ``derive`` writes the cells' tables."""
