"""The parts of the dock, from top to bottom as the work goes; each knows the workbench only."""
