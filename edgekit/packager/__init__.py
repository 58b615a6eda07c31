"""Turns a model version into a module image or an FPGA package."""
