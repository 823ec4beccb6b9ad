"""What the pages of receiver and sandbox share: their look and their guards."""
