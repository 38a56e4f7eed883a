"""The pipeline's steps: one folder each, usable with kfp, from the shell and from Python."""
