"""The container image of Trow, from locked packages: `python -m deploy.image build`."""
