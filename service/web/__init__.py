"""The studies of a storage root as web pages."""
