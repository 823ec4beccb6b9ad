"""Send webhooks to subscribed endpoints, and retry."""
