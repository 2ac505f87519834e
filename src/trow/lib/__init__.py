"""Mechanisms that several parts share, each of which exists once. They know errors and nothing else of Trow."""
