"""A card, and two cards beside each other, as a person reads them."""
