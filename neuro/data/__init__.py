"""Data sets, one a file: each returns a :class:`neuro.data.split.Split` of plain numpy arrays."""
