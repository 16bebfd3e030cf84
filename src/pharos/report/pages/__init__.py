"""Pages: results as one HTML file that needs no network: verdict, evidence, plots, operators, provenance."""
