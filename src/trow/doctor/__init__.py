"""`trow doctor`: what is wrong between clients, nodes, the cluster and Trow, and the fix.

A check is a row of the table in `checks`. It gathers facts through a `Place`, and yields what is so. Where a
cluster or a machine is hard to bring into a state, what is said of the facts is a function of its own. Nothing is
changed anywhere.
"""
