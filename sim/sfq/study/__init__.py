"""What people do with many variants of one circuit: margins, yield, shmoo, IV curves, timing, centring.

Every analysis asks :func:`sim.sfq.batch` for corners side by side and returns a dataclass that prints and saves.
"""
