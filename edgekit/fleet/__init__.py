"""Device groups and rollouts over a small hub port."""
