"""The NPU: compiler, instruction set, interpreter and package format."""
