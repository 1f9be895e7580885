"""Webhooks to ourselves: refused when an endpoint is made or changed."""

import pytest

from tests.control_plane.conftest import MakeStage

PATH = "/v1/webhooks"
OURS = {
    "webhook_denied": "2606:2800:220:1::/64, 93.184.0.0/16 api.example.org",
    "public_url": "https://api.example.com",
}


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://api.example.com/v1/messages", "url_own"),
        ("https://API.example.com.:8443/", "url_own"),
        ("https://eu.api.example.org/", "url_own"),
        ("https://93.184.216.34/", "url_not_public"),
        ("https://[2606:2800:220:1::1]/", "url_not_public"),
    ],
)
def test_what_is_ours_is_no_endpoint(make_stage: MakeStage, url: str, code: str) -> None:
    """The API's own host, and what the operator names: hosts, and addresses however public."""
    with make_stage(**OURS) as stage:
        answer = stage.tenant().post(PATH, {"url": url})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == code
