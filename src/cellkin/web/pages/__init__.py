"""The pages of the workstation: shells by Jinja, content by ES modules over the API.

No page holds data: a shell is the same for everybody, and what is shown in it comes from the API,
after login. Nothing is built and nothing is fetched from elsewhere.
"""

from cellkin.web.pages.routes import SHELLS, router

__all__ = ["SHELLS", "router"]
