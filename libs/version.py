"""The version of perpflow, which follows SemVer: a test keeps it equal to the distribution's."""

VERSION = "0.1.0"
