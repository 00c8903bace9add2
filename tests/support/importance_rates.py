"""How often importances name a parameter: `python tests/support/importance_rates.py` prints rates over made-up trials.

With noise alone as objective, every named parameter is a mistake. With a planted effect, the rate is the power.
"""

import sys
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from study.records.tables import IMPORTANCE_LEVEL
from study.search.importance.factors import Factor, choice_factor, number_factor
from study.search.importance.shares import shares_of

Values = NDArray[np.float64]

KERNELS: Final = ("1-2-4-8", "2-4-8-16", "2-4-8", "4-8-16", "2-8", "none")
PARAMETERS: Final = (
    "tumor_weight",
    "ppm_kernels",
    "first_step",
    "background_weight",
    "second_gap",
    "third_gap",
    "base_rate",
)
"""Those of the default space, and one more."""
_WHOLE: Final = {"first_step": (2, 5), "second_gap": (1, 3), "third_gap": (1, 3)}
PLANTED: Final[dict[str, Callable[[Values], Values]]] = {
    "tumor_weight, rising": lambda place: place,
    "tumor_weight, best in the middle": lambda place: -np.abs(place - 0.5),
    "ppm_kernels, one set better": lambda place: (place < 1 / len(KERNELS)).astype(np.float64),
    "first_step, rising": lambda place: np.floor(place * 4),
}
"""Effects by the place of a value in its range, 0 to 1."""


def factor_of(parameter: str, places: Values) -> Factor:
    """Return a parameter whose values have the places 0 to 1 in its range."""
    if parameter == "ppm_kernels":
        return choice_factor(parameter, [KERNELS[int(place * len(KERNELS))] for place in places], KERNELS)
    if parameter in _WHOLE:
        low, high = _WHOLE[parameter]
        return number_factor(parameter, low + np.floor(places * (high - low + 1)))
    return number_factor(parameter, 0.05 * 16**places)  # drawn on a log scale


def named(num_trials: int, num_parameters: int, seed: int, effect: str = "", share: float = 0.5) -> list[str]:
    """Return the parameters that one simulated study of one network calls important.

    Args:
        num_trials: whole trials, at random points.
        num_parameters: the first of `PARAMETERS`.
        seed: of points and noise.
        effect: a name in `PLANTED`; empty for noise alone.
        share: part of the objective's variance that the effect has; the rest is noise.
    """
    generator = np.random.default_rng(seed)
    places = generator.random((num_parameters, num_trials))
    parameters = PARAMETERS[:num_parameters]
    objectives = generator.normal(size=num_trials)
    if effect:
        planted = PLANTED[effect](places[parameters.index(effect.partition(",")[0])])
        scaled = (planted - planted.mean()) / (planted.std() or 1.0)
        objectives = np.sqrt(share) * scaled + np.sqrt(1 - share) * objectives
    factors = [factor_of(name, own) for name, own in zip(parameters, places, strict=True)]
    compared = [factor for factor in factors if factor.is_comparable]
    shares = shares_of(compared, list(objectives)) if compared else []
    return [factor.parameter for factor, one in zip(compared, shares, strict=True) if one.p_value <= IMPORTANCE_LEVEL]


def rates(num_studies: int) -> Iterator[str]:
    """Yield one line per size: studies of noise that name a parameter, then studies that find a planted effect."""
    yield f"level {IMPORTANCE_LEVEL}, {num_studies} studies a line"
    for num_trials in (8, 20, 60, 200):
        for num_parameters in (2, 4, 7):
            wrong = sum(bool(named(num_trials, num_parameters, seed)) for seed in range(num_studies))
            yield f"noise: {num_trials} trials, {num_parameters} parameters: {wrong} of {num_studies} name one"
    for effect in PLANTED:
        for share in (0.3, 0.5):
            for num_trials in (16, 20, 30, 60):
                found = [named(num_trials, 6, seed, effect, share) for seed in range(num_studies)]
                right = sum(effect.partition(",")[0] in names for names in found)
                yield f"{effect}, {share:g} of the variance: {num_trials} trials: found in {right} of {num_studies}"


if __name__ == "__main__":
    for line in rates(int(sys.argv[1]) if len(sys.argv) > 1 else 100):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
