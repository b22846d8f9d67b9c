"""The kernels on the CPU, compiled by Numba; gpu.py exports the same names with equal signatures."""

from ubp_sql.kernels._cpu_forest import forest_raw, forest_score
from ubp_sql.kernels._cpu_windows import link_previous, window_state, windowed_features

__all__ = ["forest_raw", "forest_score", "link_previous", "window_state", "windowed_features"]
