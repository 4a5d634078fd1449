"""The commands, one file per group.

Only they, ``cli`` and ``console`` print for the user and end the process.
"""
