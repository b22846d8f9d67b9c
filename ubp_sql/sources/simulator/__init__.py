"""A simulated shop whose users' true probabilities of buying are known; docs/simulator.md gives its equations."""

from ubp_sql.sources.simulator.shop import Simulation, simulate

__all__ = ["Simulation", "simulate"]
