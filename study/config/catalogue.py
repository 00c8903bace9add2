"""The pruners and samplers that a study can name in its configuration.

A new pruner is a module in `study/search/pruners` and an entry here; a new sampler, likewise, one in
`study/search/samplers`. The entries are text, so that a configuration is read without importing Ray or Optuna.
"""

from typing import Annotated, Final

from renalnet.config.catalogue import name_in, names_of

PRUNERS: Final[dict[str, str]] = {
    # Successive halving that pauses trials, which may go on later.
    "pausing": "study.search.pruners.pausing:Pausing",
    # Successive halving that ends trials.
    "asha": "study.search.pruners.asha:Asha",
    # Compares with the median of the other trials' running means.
    "median": "study.search.pruners.median:Median",
    "none": "study.search.pruners.none:NoPruner",
}
"""`search.scheduler`: subclasses of `study.search.pruner.Pruner`, each as `module:class`."""
SAMPLERS: Final[dict[str, str]] = {
    # Multivariate.
    "tpe": "study.search.samplers.tpe:Tpe",
    # Bayesian optimisation with a Gaussian process.
    "gp": "study.search.samplers.gp:Gp",
    # Uniform.
    "random": "study.search.samplers.random:Random",
    # `search.grid_levels` values per range, shuffled.
    "grid": "study.search.samplers.grid:Grid",
}
"""`search.sampler`: subclasses of `study.search.sampler.Sampler`, each as `module:class`."""
PrunerName = Annotated[str, name_in(PRUNERS, "pruner"), names_of(PRUNERS)]
"""A name in `PRUNERS`; configurations validate it."""
SamplerName = Annotated[str, name_in(SAMPLERS, "sampler"), names_of(SAMPLERS)]
"""A name in `SAMPLERS`; configurations validate it."""
