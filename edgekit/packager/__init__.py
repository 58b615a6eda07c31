"""From a model version to what runs on a device: a module image or an FPGA package."""
