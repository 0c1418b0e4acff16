"""What every HTTP program here needs: authentication, limits on requests, and admission control."""
