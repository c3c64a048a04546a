"""Search of offer menus: genome, fitness by inner allocation, held-out judgement."""
