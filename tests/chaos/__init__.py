"""Chaos: stores under faults and kills, each audited against its file.

``make chaos`` runs all of it; ``python -m tests.chaos --only NAME --seed N`` a part. A test runs a short, seeded part.
"""
