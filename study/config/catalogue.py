"""The pruners and samplers that a study can name in its configuration.

A new pruner is a module in `study/search/pruners` and an entry here; a new sampler, likewise, one in
`study/search/samplers`. The entries are text, so that a configuration is read without importing Ray or Optuna.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Final

from pydantic import AfterValidator, WithJsonSchema

from renalnet.errors import nearest

PRUNERS: Final[dict[str, str]] = {
    "asha": "study.search.pruners.asha:Asha",
    "median": "study.search.pruners.median:Median",
    "none": "study.search.pruners.none:NoPruner",
}
"""`search.scheduler`: subclasses of `study.search.pruner.Pruner`, each as `module:class`."""
SAMPLERS: Final[dict[str, str]] = {
    "tpe": "study.search.samplers.tpe:Tpe",
    "random": "study.search.samplers.random:Random",
    "grid": "study.search.samplers.grid:Grid",
}
"""`search.sampler`: subclasses of `study.search.sampler.Sampler`, each as `module:class`."""


def _named_in(catalogue: Mapping[str, str], kind: str) -> Callable[[str], str]:
    def check(name: str) -> str:
        if name not in catalogue:
            raise ValueError(f"unknown {kind}; {nearest(name, catalogue)}")
        return name

    return check


def _schema_of(catalogue: Mapping[str, str]) -> WithJsonSchema:
    return WithJsonSchema({"enum": list(catalogue), "type": "string"})


PrunerName = Annotated[str, AfterValidator(_named_in(PRUNERS, "pruner")), _schema_of(PRUNERS)]
"""A name in `PRUNERS`; configurations validate it."""
SamplerName = Annotated[str, AfterValidator(_named_in(SAMPLERS, "sampler")), _schema_of(SAMPLERS)]
"""A name in `SAMPLERS`; configurations validate it."""
