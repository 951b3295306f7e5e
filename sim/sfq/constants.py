"""Physical constants, with the digits JoSIM uses: traces must agree to the last printed digit.

Source of every value: JoSIM ``include/JoSIM/Constants.hpp`` (CODATA 2014 values; docs/sfq.md 1.1). The SI of 2019
fixes e = 1.602176634e-19 C and h = 6.62607015e-34 J s; the difference in Phi0 is 7e-9 relative.
"""

from __future__ import annotations

from typing import Final

PHI0_WB: Final = 2.067833831170082e-15
"""Flux quantum h/2e in Wb. Source: JoSIM Constants.hpp, PHI_ZERO."""

SIGMA_VS: Final = 3.291059757e-16
"""Reduced flux quantum hbar/2e = Phi0/2pi in V s: V = sigma dphi/dt. Source: JoSIM Constants.hpp, SIGMA."""

BOLTZMANN_J_K: Final = 1.38064852e-23
"""Boltzmann's constant in J/K. Source: JoSIM Constants.hpp, BOLTZMANN (CODATA 2014)."""

ELECTRON_C: Final = 1.6021766208e-19
"""Elementary charge in C. Source: JoSIM Constants.hpp, EV (CODATA 2014)."""

HBAR_JS: Final = 1.0545718001391127e-34
"""Reduced Planck constant in J s. Source: JoSIM Constants.hpp, HBAR (CODATA 2014)."""

LIGHT_M_S: Final = 299792458.0
"""Speed of light in m/s, exact. Source: SI; JoSIM Constants.hpp, C."""

MU0: Final = 12.566370614e-7
"""Vacuum permeability in H/m. Source: JoSIM Constants.hpp, MU0 (CODATA 2014)."""

EPS0: Final = 8.854187817e-12
"""Vacuum permittivity in F/m. Source: JoSIM Constants.hpp, EPS0 (CODATA 2014)."""

GAP_PER_KTC: Final = 1.76
"""Gap at T = 0 over kB Tc. Source: BCS theory (Bardeen, Cooper, Schrieffer 1957); JoSIM JJ.cpp ``del0_``."""
