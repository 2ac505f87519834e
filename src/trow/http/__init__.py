"""The surface: HTTP requests in, OCI answers out. `trow.http.routes` shows all of it on one screen."""
