"""Torch parts used by more than one method.

Import the file you need (``from offnominal.nets.training import train``): this package loads no torch by
itself, and `compiled`, which runs exported networks, never does.
"""
