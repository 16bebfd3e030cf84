"""Plan: capacity and communication."""
