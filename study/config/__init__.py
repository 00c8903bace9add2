"""The configuration of a study, its presets, and which of its fields may change when a study is resumed."""
