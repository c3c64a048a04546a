"""One `run(config, executor, store)` per stage; composes the methods, computes nothing."""
