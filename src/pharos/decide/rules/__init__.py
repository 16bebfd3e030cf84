"""Rules of advice, one a file; a file is a rule when it is here."""
