"""The engine `lmdeploy`: LMDeploy's own server in a separate environment."""
