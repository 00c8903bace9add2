"""The store of regions of interest: Parquet shards, an index of the cases, and a manifest."""
