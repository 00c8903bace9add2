"""Tree-structured Parzen estimator (TPE; Bergstra et al., 2011), multivariate (Falkner et al., 2018)."""

from optuna.samplers import BaseSampler, TPESampler

from study.search.sampler import Sampler, trial_seed
from study.search.samplers.within_space import WithinSpace


class Tpe(Sampler):
    """Random points at first, then points that are likely among the best trials and unlikely among the others."""

    def for_trial(self, seed: int, number: int) -> BaseSampler:
        """Return Optuna's multivariate TPE."""
        own_seed = trial_seed(seed, number)
        # The other settings are Optuna's: on recorded curves, a share of good trials from 0.1 to 0.35 and 100
        # candidates a draw made no difference beyond the noise (results/LOG.md).
        tpe = TPESampler(
            n_startup_trials=self.search.num_startup_trials,
            multivariate=True,
            constant_liar=True,  # trials run at the same time; without it they would draw nearly the same point
            seed=own_seed,
        )
        return WithinSpace(tpe, self.searched, own_seed, is_joint=True)
