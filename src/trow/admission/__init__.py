"""Admission: reviews of the API server, and image policies at pull time."""
