"""Networks, one a file: functions that return a module which steps with explicit state."""
