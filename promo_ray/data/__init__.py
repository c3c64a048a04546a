"""Reading, checking, cleaning and simulating shop data; virtual blocks of users."""
