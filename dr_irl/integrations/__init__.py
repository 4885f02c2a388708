"""The method inside other training libraries."""
