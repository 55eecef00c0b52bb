"""Thin Prefect tasks: unpack, call one function of hazard_store, report its metrics, return them."""
