"""The convolutions of a network in bfloat16, checked against float32 on this processor."""
