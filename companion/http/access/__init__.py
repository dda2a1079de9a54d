"""Who may do what: tokens, logins, origins, throttling."""
