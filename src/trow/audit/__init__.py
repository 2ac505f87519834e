"""Who did what, when and from where: kept so that nobody can change it unnoticed, searched, and sent to others.

What happens comes in through `trail.AuditTrail`. A thread (`writer`) chains it record by record (`chain`) and keeps it
in a database of its own (`store`). From there it goes to files, standard output (`sinks`) and a webhook (`webhook`).
`queries` searches it, `retention` decides what leaves, and `verify` finds what was altered.
"""
