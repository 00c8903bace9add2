"""The configuration of a study: its sections, presets and search space, and the changes allowed on resume."""
