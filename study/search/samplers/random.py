"""Uniform random points."""

from optuna.samplers import BaseSampler, RandomSampler

from study.search.sampler import Sampler, trial_seed
from study.search.samplers.within_space import WithinSpace


class Random(Sampler):
    """Independent uniform draws, on the scale of each range.

    The points do not depend on earlier trials: they are the same in any order in which trials end.
    """

    def for_trial(self, seed: int, number: int) -> BaseSampler:
        """Return Optuna's random sampler."""
        own_seed = trial_seed(seed, number)
        return WithinSpace(RandomSampler(seed=own_seed), self.searched, own_seed, is_joint=False)
