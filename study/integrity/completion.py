"""What enters the ledger at the end of a study."""

from collections.abc import Container

from renalnet.runtime import storage
from study.integrity.kinds import SELECTION, TABLES, VIEW, case_of
from study.records.ledger import Ledger, LedgerContent
from study.records.results import MANIFEST, Results


def enter_tables(results: Results, finalists: Container[str]) -> None:
    """Enter the tables and views, and drop the masks of finalists of an earlier choice, which nothing makes again."""
    ledger = Ledger(results)
    names = (ledger.find() or LedgerContent()).files
    cases = {name: case for name in names if (case := case_of(name))}
    ledger.drop(name for name, (finalist, _) in cases.items() if finalist not in finalists)
    final = [f"final/{name}" for name in storage.list_files(results.final_folder)]
    ledger.add([*TABLES, *filter(VIEW.fullmatch, final)])


def keep_texts(results: Results) -> None:
    """Keep the text of the manifest and of every choice of the winner in the ledger."""
    names = [f"final/{name}" for name in storage.list_names(results.final_folder)]
    Ledger(results).keep_copies([MANIFEST, *filter(SELECTION.fullmatch, names)])
