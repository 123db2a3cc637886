"""The space-time U-Net as the paper tells it: torch and diffusers, nothing of a cluster or a tracker."""
