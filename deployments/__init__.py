"""What it takes to run hazard-store elsewhere than in the library's own process."""
