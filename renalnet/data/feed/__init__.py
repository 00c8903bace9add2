"""From a store to the patients and crops of a training run."""
