"""Share templates, style and protection between the pages of receiver and sandbox."""
