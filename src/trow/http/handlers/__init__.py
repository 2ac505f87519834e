"""One method for each route: from a request to the use case, and back to a response."""
