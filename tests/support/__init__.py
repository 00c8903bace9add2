"""Helpers of several tests: synthetic inputs, studies that take seconds, commands and their outputs."""
