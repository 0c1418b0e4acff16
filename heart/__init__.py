"""The library that the pipeline, the drift monitor and the service share.

It imports none of them. Each package below says in its docstring what lives there.
"""
