"""What the shop sells: categories, items with titles and prices, discounts."""

from dataclasses import dataclass

import numpy as np

from ubp_sql.sources.simulator.calendar import SALES
from ubp_sql.sources.simulator.draws import Floats, Ints, normal, stream

# name, nouns, median price in cents, share of views. The first four are refill goods: bought again in cycles.
CATEGORIES = (
    ("coffee", ("espresso beans", "filter coffee", "decaf beans"), 1200, 0.08),
    ("tea", ("green tea", "black tea", "herbal infusion"), 800, 0.06),
    ("pet food", ("dog food", "cat food", "puppy biscuits"), 2200, 0.07),
    ("soap", ("hand soap", "bath soap", "shaving soap"), 600, 0.05),
    ("mug", ("mug", "cup", "travel mug"), 1100, 0.10),
    ("lamp", ("desk lamp", "floor lamp", "night light"), 4500, 0.08),
    ("book", ("notebook", "cookbook", "sketchbook"), 1500, 0.12),
    ("plant", ("potted fern", "cactus", "bonsai"), 1900, 0.07),
    ("shirt", ("t-shirt", "linen shirt", "polo shirt"), 2600, 0.13),
    ("shoe", ("sneakers", "boots", "sandals"), 6500, 0.10),
    ("bag", ("tote bag", "backpack", "shoulder bag"), 3900, 0.08),
    ("toy", ("teddy bear", "plush rabbit", "rag doll"), 1700, 0.06),
)
REFILL_CATEGORIES = 4
PER_CATEGORY = 25
COLOURS = (
    ("red", (200, 60, 55)),
    ("orange", (228, 135, 45)),
    ("yellow", (226, 190, 60)),
    ("green", (85, 150, 80)),
    ("blue", (65, 110, 190)),
    ("purple", (130, 85, 165)),
    ("brown", (130, 92, 65)),
    ("grey", (130, 135, 145)),
)
ADJECTIVES = ("classic", "soft", "modern", "handmade", "vintage", "small", "large", "organic", "premium", "everyday")
FIRST_ITEM = 1001


@dataclass(frozen=True)
class Catalogue:
    """Arrays of length `n` items, category by category, the most popular of a category first."""

    item: Ints  # key
    category: Ints
    colour: Ints
    title: list[str]
    price: Ints  # list price, cents
    discount: Ints  # standing discount, percent
    in_sale: Ints  # (1 + sales, n) percent off: row 0 outside sales, row k in the k-th sale of the year
    popularity: Floats  # (n,) cumulated within a category, the last of each is 1
    n: int

    def price_cents(self, item: Ints, off: Ints) -> Ints:
        """Unit price paid, in cents, rounded half up."""
        return np.asarray((self.price[item] * (100 - off) + 50) // 100)

    def draw(self, category: Ints, u: Floats) -> Ints:
        """Index of the item at position `u` in [0, 1) of each category's popularity."""
        inside = np.searchsorted(self.popularity[:PER_CATEGORY], u, side="right")
        return np.asarray(category * PER_CATEGORY + np.minimum(inside, PER_CATEGORY - 1))


def make_catalogue(seed: int) -> Catalogue:
    """Draw the items. Popularity within a category is Zipf's law, rank ** -0.9; prices are log-normal, sigma 0.4."""
    rng = stream(seed, 3)
    n = len(CATEGORIES) * PER_CATEGORY
    category = np.repeat(np.arange(len(CATEGORIES)), PER_CATEGORY)
    rank = np.arange(n) % PER_CATEGORY
    median = np.array([float(c[2]) for c in CATEGORIES])[category]
    price = np.floor(median * np.exp(0.4 * normal(rng, n)) / 50.0).astype(np.int64) * 50 + 49
    colour = np.floor(rng.random(n) * len(COLOURS)).astype(np.int64)
    adjective = np.floor(rng.random(n) * len(ADJECTIVES)).astype(np.int64)
    title = [
        f"{ADJECTIVES[a]} {COLOURS[c][0]} {CATEGORIES[k][1][r % 3]} no. {r + 1}".capitalize()
        for a, c, k, r in zip(adjective, colour, category, rank, strict=True)
    ]
    standing = np.where(rng.random(n) < 0.05, 10, 0)
    in_sale = [standing] + [np.where(rng.random(n) < 0.5, percent, standing) for _, _, percent in SALES]
    weight = np.arange(1.0, PER_CATEGORY + 1) ** -0.9
    return Catalogue(
        item=FIRST_ITEM + np.arange(n),
        category=category,
        colour=colour,
        title=title,
        price=price,
        discount=standing,
        in_sale=np.stack(in_sale),
        popularity=np.tile(np.cumsum(weight) / weight.sum(), len(CATEGORIES)),
        n=n,
    )
