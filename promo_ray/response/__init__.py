"""How outcomes and costs respond to offers: uplift learners and the response surface."""
