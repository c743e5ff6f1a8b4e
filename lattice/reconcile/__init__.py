"""Makes the lattice what the deployed apps say it should be.

Its pure half decides: ``model`` has the values, ``planning`` the decisions, ``placement`` who runs
where, ``rollout`` how a version replaces another, ``liveness`` who is alive.
"""
