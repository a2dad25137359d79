"""Glance: there are no images; every server boots from a volume."""

from __future__ import annotations

from fastapi import APIRouter

from lab.cloud.call import ImageCall
from lab.cloud.refusals import Json, Refused

router = APIRouter(prefix="/image/v2")


@router.get("/images")
async def list_images(call: ImageCall) -> Json:
    """None."""
    del call
    return {"images": [], "schema": "/v2/schemas/images", "first": "/v2/images"}


@router.get("/images/{image_id}")
async def show_image(call: ImageCall, image_id: str) -> Json:
    """None."""
    del call
    raise Refused(404, f"Failed to find image {image_id}")
