"""`make chaos`: the product's own processes under a storm, and the sandbox as the judge.

A plan is made from a seed, before anything starts (`plan`). Real processes are started (`product`), owners
sign in through the web app (`signin`), the plan strikes them (`storm`), a quiet period follows, and then the
two sides are compared (`ledger`, `judge`). The workers and the web app run the product unchanged but for
`workers.steps.listener`, through which a process kills or stops itself at a named step (`listener`,
`orders`).
"""
