"""The same loops on Ray: session, executor on actors, tuning. The only package that imports ray."""
