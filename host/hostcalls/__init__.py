"""Everything a guest can reach: the builtin namespaces answered here, and links for all the rest.

============================== ==========================================================
namespace                      answered by
============================== ==========================================================
``wasmcloud:builtin:logging``  this host's log (``builtin.py``)
``wasmcloud:builtin:numbergen`` the system's random source (``builtin.py``)
``wasmcloud:builtin:config``   the actor's own configuration (``builtin.py``)
``namespace:package[/name]``   the target of the link by that name (``outward.py``)
an actor's id                  that actor, if a link to it exists (``outward.py``)
``namespace/name``             an actor by its call alias: the target of the link for the package
                               ``namespace:name`` (``outward.py``)
============================== ==========================================================
"""
