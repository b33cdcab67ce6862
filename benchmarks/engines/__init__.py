"""One module an engine; each opens a workload as a `harness.Loader`."""
