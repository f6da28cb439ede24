"""Parts of ``super_resolution.py``."""
