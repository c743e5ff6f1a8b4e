"""Providers on this host: started, given their links, watched, restarted, stopped."""
