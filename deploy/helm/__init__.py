"""The chart of Trow, and what is made from other sources: `python -m deploy.helm`."""
