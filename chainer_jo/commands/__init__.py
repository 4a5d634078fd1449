"""What a command does: one file per group of commands.

With ``cli`` and ``console`` the only places that print for people and end the process.
"""
