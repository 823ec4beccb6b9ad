"""Turn records into signals as the setting `signals` says."""
