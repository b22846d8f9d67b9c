"""Random draws built on the uniform stream of PCG64 alone.

NumPy keeps the uniform stream of a bit generator but not the streams of its distributions between releases (NEP 19),
so every other distribution is made here from uniforms: same seed, same shop, whatever the NumPy release.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def stream(seed: int, stage: int) -> np.random.Generator:
    """Independent generator of one stage, so that a change in one stage leaves the others' draws alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stage])))


def normal(rng: np.random.Generator, size: int) -> Floats:
    """Standard normal values, (size,) (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log1p(-rng.random(size)))
    return np.asarray(radius * np.cos(2.0 * np.pi * rng.random(size)))


def gamma(rng: np.random.Generator, shape: Ints) -> Floats:
    """Gamma values of mean 1 and integer `shape` (n,): the mean of `shape` exponential values."""
    total = np.zeros(shape.size)
    for k in range(int(shape.max(initial=0))):
        total += np.where(shape > k, -np.log1p(-rng.random(shape.size)), 0.0)
    return total / shape


def poisson(rng: np.random.Generator, mean: Floats) -> Ints:
    """Poisson counts of mean `mean` (n,) >= 0, by inversion; made for small means, where nearly all counts are 0."""
    u = rng.random(mean.size)
    count = np.zeros(mean.size, dtype=np.int64)
    term = np.exp(-mean)
    left = np.flatnonzero(u >= term)
    term, mean = term[left], mean[left]
    below = term.copy()
    while left.size:
        count[left] += 1
        term = term * mean / count[left]
        below = below + term
        # A term under 1e-17 can no longer move the sum: without this a `u` next to 1 would never end.
        go = (u[left] >= below) & (term > 1e-17)
        left, term, mean, below = left[go], term[go], mean[go], below[go]
    return count


def geometric(rng: np.random.Generator, mean: Floats, most: int) -> Ints:
    """Geometric counts from 0 with the given means (n,) > 0, cut at `most` (which lowers the mean a little)."""
    count = np.floor(np.log1p(-rng.random(mean.size)) / np.log(mean / (1.0 + mean)))
    return np.minimum(count, most).astype(np.int64)


def choose(rng: np.random.Generator, weights: Floats, size: int) -> Ints:
    """Indices into `weights` (k,), each drawn in proportion to its weight, (size,)."""
    edges = np.cumsum(weights)
    return np.asarray(np.minimum(np.searchsorted(edges, rng.random(size) * edges[-1], side="right"), weights.size - 1))
