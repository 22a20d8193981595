"""What makes the generated pages of the documentation. Not part of the package."""
