"""HTTP for every program here: hosts, origins, security headers, authentication, and limits on requests."""
