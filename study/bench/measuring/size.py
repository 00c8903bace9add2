"""How much is measured."""

from pydantic import PositiveFloat, PositiveInt

from renalnet.config import Section, Voxels


class Size(Section):
    """Defaults are the paper's: 90 training ROIs of about 200 slices of 150×150, batches of four sub-volumes."""

    patients: PositiveInt = 90
    """ROIs of full size."""
    roi: Voxels = (200, 150, 150)
    """Voxels (z, y, x) of an ROI."""
    crop: Voxels = (64, 150, 150)
    """Voxels (z, y, x) of a crop."""
    batch_size: PositiveInt = 4
    """Crops a batch."""
    batches: PositiveInt = 500
    """From a cold process."""
    peer_batches: PositiveInt = 60
    """Where a peer's numbers of workers are tried; no more than `batches` in any case."""
    growing_patients: tuple[PositiveInt, ...] = (10, 100, 1000, 10000)
    """Sizes of the cohorts that are prepared and streamed, to see what grows with them; their ROIs are small."""
    abdomens: PositiveInt = 120
    """Whole-abdomen CTs in which kidneys are searched."""
    network_shape: Voxels = (64, 152, 152)
    """Voxels (z, y, x) of an image that networks are timed on; multiples of 8, so that none is padded."""
    network_batch: PositiveInt = 1
    """Images a training step and an inference."""
    network_rounds: PositiveInt = 3
    """Training steps and inferences of each network; the median counts."""
    inference_steps: PositiveInt = 200
    """Training steps of the network whose stitched inference is timed."""
    inference_rounds: PositiveInt = 3
    """ROIs that each contender segments behind a first one; the median counts."""
    long_trials: PositiveInt = 128
    """Sleeping trials on few slots."""
    long_trial_s: PositiveFloat = 30.0
    """Of one of these."""
    long_slots: PositiveInt = 8
    """Of these at once."""
    short_trials: PositiveInt = 1000
    """Sleeping trials on many slots, of one epoch each."""
    short_trial_s: PositiveFloat = 1.0
    """Of one of these."""
    short_slots: PositiveInt = 16
    """Of these at once."""
    kept_trials: PositiveInt = 200
    """Trials that write weights, of which the best are kept."""
    replays: PositiveInt = 50
    """Seeds of each search that is replayed on recorded curves."""
    replay_slots: PositiveInt = 4
    """Trials at once in these."""
