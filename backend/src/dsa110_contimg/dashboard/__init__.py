"""The pages that people keep open: rendered here, on the server, from the same functions that the API calls."""
