"""Sizes of the benchmarks."""

from typing import Literal

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from renalnet.config import Section, Voxels


class Size(Section):
    """Sizes of all benchmarks. The defaults are those of the paper: 90 training ROIs of about 200 slices of 150×150
    voxels, and batches of four crops."""

    patients: PositiveInt = 90
    """Number of ROIs of full size."""
    roi: Voxels = (200, 150, 150)
    """Voxels (z, y, x) of an ROI."""
    crop: Voxels = (64, 150, 150)
    """Voxels (z, y, x) of a crop."""
    batch_size: PositiveInt = 4
    """Number of crops per batch."""
    batches: PositiveInt = 500
    """Number of batches that a new process loads."""
    peer_batches: PositiveInt = 60
    """Number of batches on which a peer tries its numbers of workers, at most `batches`."""
    growing_patients: tuple[PositiveInt, ...] = (10, 100, 1000, 10000)
    """Numbers of small cases that are prepared and streamed, to measure what grows with them."""
    abdomens: PositiveInt = 120
    """Number of whole-abdomen scans in which kidneys are localised."""
    scans: str | None = None
    """Folder of scans with label maps, in a layout of `prepare`, on which localisers are measured, too."""
    painted_cases: PositiveInt = 60
    """Number of painted cases whose CT numbers are compared with published ones."""
    label_maps: str | None = None
    """Folder of label maps that these cases are painted on; null for drawn abdomens."""
    held_out_abdomens: PositiveInt = 70
    """Number of painted abdomens of each setting that was left out of the training of a localiser."""
    localiser_phantoms: PositiveInt = 160
    """Number of painted abdomens that each such localiser learns from."""
    localiser_steps: PositiveInt = 600
    """Number of steps of the training of each such localiser."""
    initial_cases: PositiveInt = 60
    """Number of painted cases on which initial weights are compared; with `label_maps`, all of them are painted."""
    initial_seeds: PositiveInt = 3
    """Number of runs of each beginning."""
    initial_epochs: PositiveInt = 6
    """Number of epochs of such a run."""
    initial_steps: PositiveInt = 60
    """Number of steps of such an epoch."""
    network_shape: Voxels = (64, 152, 152)
    """Voxels (z, y, x) of an image on which networks are timed; multiples of 8, so that no network pads it."""
    network_batch: PositiveInt = 1
    """Number of images per training step and per inference."""
    network_rounds: PositiveInt = 3
    """Number of training steps and inferences of each network, of which the median counts."""
    inference_steps: PositiveInt = 200
    """Number of training steps of the network whose stitched inference is timed."""
    inference_rounds: PositiveInt = 3
    """Number of ROIs that each program segments after a first one; the median counts."""
    long_trials: PositiveInt = 128
    """Number of long sleeping trials, which run on few slots."""
    long_trial_s: PositiveFloat = 30.0
    """Duration of a long trial."""
    long_slots: PositiveInt = 8
    """Number of long trials at the same time."""
    short_trials: PositiveInt = 1000
    """Number of short sleeping trials of one epoch, which run on many slots."""
    short_trial_s: PositiveFloat = 1.0
    """Duration of a short trial."""
    short_slots: PositiveInt = 16
    """Number of short trials at the same time."""
    kept_trials: PositiveInt = 200
    """Number of trials that write weights, of which the best are kept."""
    replays: PositiveInt = 50
    """Number of seeds of each search that is replayed on recorded curves."""
    replay_slots: PositiveInt = 4
    """Number of trials at the same time in a replayed search."""
    kills: NonNegativeInt = 20
    """Number of kills and full disks that strike tiny studies."""
    damages: NonNegativeInt = 40
    """Number of copies of a finished tiny study of which a file is damaged."""
    damages_by_command: NonNegativeInt = 4
    """Number of these copies that the study's command resumes; the others are mended in the process."""
    seed: NonNegativeInt = 0
    """Seed of the faults."""
    parts_maps: tuple[str, ...] = ()
    """Folders with the label maps of the ablation in `train/` and `test/`; none for all such folders
    in the one that RENALNET_TEST_DATA names."""
    parts_work: str | None = None
    """Folder in which the ablation keeps its cases and runs, and from which it goes on; null for a temporary one."""
    parts_preset: Literal["anatomy", "paper"] = "anatomy"
    """Preset of the reference. `paper` has voxels a third as large and needs a GPU."""
    parts_names: tuple[str, ...] = ()
    """Names of the parts to measure; none for all."""
    parts_train: NonNegativeInt = 60
    """Number of label maps for training and validation; 0 means all."""
    parts_test: NonNegativeInt = 0
    """Number of label maps for the test; 0 means all."""
    parts_painter_seed: NonNegativeInt = 24
    """Seed of the painter, from which training and test maps get one each."""
    parts_seeds: PositiveInt = 3
    """Number of runs of each part."""
    parts_first_seed: NonNegativeInt = 0
    """Seed of the first of them; the others have the following ones."""
    parts_epochs: PositiveInt = 4
    """Number of epochs of a run."""
    parts_steps: PositiveInt = 160
    """Number of steps of such an epoch, the same for every part."""
