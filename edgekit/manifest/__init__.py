"""Deployment manifests: build, check, diff."""
