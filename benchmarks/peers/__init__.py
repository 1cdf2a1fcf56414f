"""nginx, LiteLLM's proxy and Portkey's gateway on the same work as the gateway: `make bench-peers`."""
