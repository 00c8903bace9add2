"""Libraries that compute the networks in inference: PyTorch, and OpenVINO where it is installed."""
