"""Typed offers with exact integer-money cart pricing and a JSON form."""
