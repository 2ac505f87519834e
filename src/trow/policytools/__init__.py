"""`trow policy`: image policies from files, evaluated without a cluster."""
