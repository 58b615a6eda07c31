"""A Device Provisioning Service beside the hub, for unmodified Azure SDKs.

It runs in the hub's process and on the hub's ports; `edgekit sim hub` and `start_hub()` say its id
scope, its host for devices and its service connection string.
"""
