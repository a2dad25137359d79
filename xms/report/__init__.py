"""The report of a migration: who, when, each step's time, bytes, verification, what was decided and why.

Pure: a job's status and its story in, a `Report` out (`xms.report.build`). JSON is that model; `xms.report.page` makes
a self-contained HTML page of it, and `cli.report_screens` what a terminal shows.
"""
