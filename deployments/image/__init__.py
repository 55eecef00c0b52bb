"""The image: what its Dockerfile copies, and a check of the Dockerfile without Docker."""
