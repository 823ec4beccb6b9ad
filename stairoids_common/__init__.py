"""Code that several packages of this project share."""
