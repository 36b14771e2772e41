"""The API under /api/v1: the same operations as the pages, for programs too."""

from cellkin.web.api.routes import router, takes_uploads

__all__ = ["router", "takes_uploads"]
