"""The books that the project knows, and how they are fetched."""
