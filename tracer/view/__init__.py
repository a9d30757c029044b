# SPDX-License-Identifier: GPL-2.0-only
"""Journeys as lines for people: a pure render of values to lines, and thin shells around it.

``journey.render`` and ``capture`` turn values into lines of styled spans; ``theme`` knows what
a style looks like, ``line_view`` writes to a stream. Only ``theme`` knows rich, and only if
there is colour.
"""
