"""Models, images and graphs, with counted versions and tags; blobs by sha256."""
