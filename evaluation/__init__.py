"""The judge: protocol, metrics, scenarios, runner, report and command line."""
