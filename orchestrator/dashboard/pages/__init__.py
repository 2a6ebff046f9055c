"""The pages, one module each: what a page needs of the API, and what its buttons do."""
