"""Types, errors and mechanisms that every other room stands on."""
