"""Batches: the finished calculations under a folder, and which of them are left to store.

::

    discovery    the files under a folder
    naming       the id that each is stored under
    examination  is a file a finished calculation? asked in a process of its own, and remembered
    sorting      what is stored already, still being written, refused, or to be stored
"""
