"""The engine `lmdeploy`: LMDeploy's own server, in an environment of its own."""
