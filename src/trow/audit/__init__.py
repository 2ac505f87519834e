"""Who did what, when and from where: kept so that nobody can change it unnoticed, searched, and told to others.

What happens comes in through `trail.AuditTrail`, is chained record by record (`chain`), kept in a database of its own
(`store`) and followed from there by files, standard output (`follow`) and a webhook (`webhook`). `queries` searches it,
`verify` finds what was altered.
"""
