"""Looking into a trace: one file a subcommand, and what they share.  No TensorFlow here.

A subcommand's file holds its flags and what it does with them; what it finds is gathered by `listing`,
`inspection`, `comparison`, `exporting` and `checking` into frozen dataclasses, which become JSON, or text
by the file of the same name that ends in `_text`.
"""
