"""Torch networks of single image methods; imported when a method is fitted, never before."""
