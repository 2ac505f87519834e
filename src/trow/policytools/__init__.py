"""Policies from files, judged without a cluster: what `trow policy` does."""
