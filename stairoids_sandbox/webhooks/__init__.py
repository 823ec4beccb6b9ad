"""Send webhooks for accepted signals: automations and event subscriptions."""
