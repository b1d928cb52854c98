"""Detectors on images, one method a file."""
