"""The objective line of LightGBM's text format: what turns the sums of leaves into scores, and how many there are."""

from __future__ import annotations

import re

from ubp_sql.errors import InvalidModel, UnsupportedModel
from ubp_sql.models.forest import Link
from ubp_sql.models.lightgbm_fields import decode, show

# Numeric settings of training (alpha, c, rho) are not in the file and do not matter to a score.
_REGRESSION = ("regression", "regression_l1", "fair", "quantile", "mape")
_LINKS = {
    **dict.fromkeys((*_REGRESSION, "huber", "lambdarank", "rank_xendcg"), Link.IDENTITY),
    **dict.fromkeys((f"{name} sqrt" for name in _REGRESSION), Link.SIGNED_SQUARE),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), Link.EXP),
    "cross_entropy": Link.SIGMOID,
    "cross_entropy_lambda": Link.LOG1P_EXP,
}
_NUMBER = r"(?P<whole>\d{1,15})(?:\.(?P<fraction>\d{1,15}))?(?:e(?P<sign>[+-])(?P<exponent>\d{1,2}))?"
_CLASSIFIER = re.compile(rf"(?P<name>\w+)(?: num_class:(?P<outputs>\d{{1,6}}))?(?: sigmoid:{_NUMBER})?", re.ASCII)
# name: (has it num_class, has it sigmoid, link)
_CLASSIFIERS = {
    "binary": (False, True, Link.SIGMOID),
    "multiclass": (True, False, Link.SOFTMAX),
    "multiclassova": (True, True, Link.SIGMOID),
}


def read_objective(header: dict[str, bytes]) -> tuple[str, Link, float, int]:
    """Name, link, the link's parameter and the number of outputs of the header's objective line."""
    if "objective" not in header:
        raise UnsupportedModel(
            "header: no objective: the model was trained with a custom one, its link is unknown",
            "train with an objective of LightGBM's own",
        )
    objective = decode(header["objective"][:100], "header: objective")  # the longest known has some 50 characters
    if objective in _LINKS:
        return objective.split(" ")[0], _LINKS[objective], 1.0, 1
    found = _CLASSIFIER.fullmatch(objective)
    if found and found["name"] in _CLASSIFIERS:
        classes, sigmoid, link = _CLASSIFIERS[found["name"]]
        if (found["outputs"] is not None, found["whole"] is not None) == (classes, sigmoid):
            parameter = _short_number(*found.group("whole", "fraction", "sign", "exponent")) if sigmoid else 1.0
            if not parameter > 0:
                raise InvalidModel("header: objective: sigmoid must be above 0")
            return found["name"], link, parameter, int(found["outputs"] or 1)
    known = ", ".join(sorted({name.split(" ")[0] for name in (*_LINKS, *_CLASSIFIERS)}))
    raise UnsupportedModel(f"header: objective {show(header['objective'])} is not supported", f"supported are {known}")


def _short_number(whole: str, fraction: str | None, sign: str | None, exponent: str | None) -> float:
    """A number of the objective line by the steps of LightGBM's Atof, which rounds twice where strtod rounds once."""
    value = float(whole)
    if fraction:
        value += float(fraction) / 10.0 ** len(fraction)
    scale = 10.0 ** int(exponent or 0)
    return value / scale if sign == "-" else value * scale
