"""The exporter daemon: HTTP, TLS, signals and systemd around one collection for each scrape."""
