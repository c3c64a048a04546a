"""Array maths without domain words: merge trees, tree ensembles, linear algebra."""
