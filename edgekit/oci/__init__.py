"""OCI layers, images, layouts and the registry client; knows nothing of models."""
