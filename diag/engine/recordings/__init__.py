"""Runs in files: recorded, replayed, compared, cut out as a program to send."""
