"""Everything of Dagster but the assets: definitions, ledger, runners, jobs, sensors, schedule, study, UI."""
