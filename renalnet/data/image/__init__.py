"""Image files: what is checked before the library reads them."""
