"""Tables: what a machine is and what it costs. Data only; :mod:`hardware.tables` reads them."""
