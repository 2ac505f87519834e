"""What keeps the cluster and Trow in step: each reads objects of the API and writes what follows from them."""
