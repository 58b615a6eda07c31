"""Runs the NPU's RTL in Verilator."""
