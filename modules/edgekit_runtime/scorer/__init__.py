"""A model behind HTTP and local MQTT, in the Open Inference Protocol V2."""

from edgekit_runtime.scorer.serve import serve

__all__ = ["serve"]
