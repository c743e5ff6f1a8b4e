"""Guests from source: folders for new actors, the tools of their languages, and how they build.

What is built here is nothing special: any module or component that any tool made is as good. Pure
in its middle (``recipes``, ``templates``); ``tools`` and ``building`` act.
"""
