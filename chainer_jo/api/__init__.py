"""The public face: what ``import chainer_jo`` offers, one file per idea.

Each function checks what it is given, then hands it to the room that does the work. Nothing is
computed a second time here.
"""
