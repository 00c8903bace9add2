"""One training run: a plain loop over steps that validates, checkpoints and resumes; it knows nothing of Ray."""

from renalnet.train.records import LOG_FILE, EpochRecord, best_of, write_log
from renalnet.train.run import StepReport, TrainingRun
from renalnet.train.step import learning_rate
from renalnet.train.validate import segment

__all__ = ["LOG_FILE", "EpochRecord", "StepReport", "TrainingRun", "best_of", "learning_rate", "segment", "write_log"]
