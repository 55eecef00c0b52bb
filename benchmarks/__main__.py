"""``python -m benchmarks``: see ``benchmarks/run.py``.

A module of this name is not imported again by the processes that are started from it, as Dask's workers are: they
would have the memory, and take the time, of all that the benchmarks import.
"""

from benchmarks.run import main

main()
