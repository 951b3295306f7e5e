"""What a machine is: limits, timing, prices and cells, as tables with sources."""
