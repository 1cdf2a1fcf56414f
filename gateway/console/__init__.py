"""The web console: pages made on the server, a client of the admin API in its own process."""
