"""Calibration and int8 graphs, with the accuracy they keep."""
