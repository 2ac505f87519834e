"""`trow doctor`: what is wrong between clients, nodes, the cluster and Trow, and the fix.

A check is a row of the table in `checks`. It gathers facts, through a `Place`, and judges them in a function that does
nothing else, so that what it says of a cluster can be tried without one. Nothing is changed anywhere.
"""
