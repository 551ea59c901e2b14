"""The tasks shipped with the package, one folder each, and the checks their verifiers share."""
