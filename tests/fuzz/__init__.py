"""A fuzzer for the reader of datastores and zip archives: ``python -m tests.fuzz --mutations 20000 --seed 1``.

::

    damage        bytes of a file flipped, cut, swapped, overwritten
    structures    HDF5 that is well formed and hostile: absurd shapes, links and data elsewhere, strange types
    archives      zip archives: bombs, names, members, checksums
    mutations     the list of all kinds; a seed and a number name one mutation
    judging       reads a mutation as a store does, and says if that was right
    processes     worker processes with limits of memory, file size and time, which may crash
    __main__      the run, and the table of what came of it

The real datastores of ``tests/data`` are mutated. A mutation is *read right* or *refused*; all else is a defect.

Read right: every label and value is what a plain h5py program, which shares no code with the reader, finds in the
mutated file itself. A flipped bit of a curve that stays a probability is such a case: nobody can know that it is wrong.

Refused: a ``HazardStoreError`` of one printable line.

Refused by the trial: HDF5's library loops or crashes on it, and ``hazard_store.oq.trial``, which stands before every
store, said so from a process of its own.

A defect: other exceptions, wrong or missing values, a crash, no answer in time, more memory or disk than a sound file
of that size could need, a file opened that is not the one that was given, a pickle loaded, a temporary file left.
"""
