"""A task's report: one page of HTML for people. Needs the extra `report`; imported by the command alone."""
