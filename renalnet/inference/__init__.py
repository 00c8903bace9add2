"""Stitched inference, dense CRF and connectivity: from a network's logits to the final mask."""
