"""Masks in formats that other programs read: contours of radiotherapy (RTSTRUCT) and closed surfaces (STL)."""
