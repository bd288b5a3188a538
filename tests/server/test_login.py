"""A team's login, whole: a provider of its own on this machine, Streamlit's pages, our routes, roles, and the log."""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from kdcore.inference.layer_index import StudyLayers
from kdcore.jobs.actions import recent_actions
from kdcore.jobs.workspace import Workspace
from tests.map_study import make_map_study
from tests.server.conftest import Served, Tab, free_port
from tests.server.oidc import CLIENT, CLIENT_SECRET, Provider

TRAINER, VIEWER, STRANGER = "ann@example.org", "bob@friends.example", "eve@example.com"
COOKIE_SECRET = secrets.token_hex(32)


class Team:
    """A dashboard with a login, and its provider."""

    def __init__(self, served: Served, provider: Provider) -> None:
        self.served, self.provider = served, provider
        self.url = served.url

    @contextmanager
    def log_in(self, email: str, **claims: object) -> Iterator[httpx.Client]:
        """A browser after the login, through the very link that the page sends."""
        self.provider.person = {"email": email, "email_verified": True, "name": email.partition("@")[0]} | claims
        with httpx.Client(follow_redirects=True, timeout=300, trust_env=False) as client:
            client.get(f"{self.url}/_stcore/health")  # gives the XSRF cookie, as to every browser
            tab = Tab(self.served, client)
            button = re.search(r'id: "([^"]*)"[^"]*label: "Log in"', tab.open().replace("\n", " "))[1]
            link = re.search(r'auth_redirect \{\s*url: "([^"]+)"', tab.open(press=button))[1]
            tab.close()
            client.get(f"{self.url}{link}")
            yield client

    def tile(self, study: str = "town") -> str:
        scene = StudyLayers.load(self.served.workspace / study).scenes[0]
        return f"{self.url}/tiles/{study}/{scene.id}/imagery/{scene.zoom}/0/0.png"


@pytest.fixture(scope="module")
def team(serve: Callable[..., Served], tmp_path_factory: pytest.TempPathFactory) -> Team:
    folder = tmp_path_factory.mktemp("team")
    workspace = folder / "studies"
    make_map_study(workspace, "town")
    (workspace / "team.yaml").write_text(f"trainers: [{TRAINER}]\nviewers: ['@friends.example']\n")
    port = free_port()
    provider = Provider(f"http://127.0.0.1:{port}/oauth2callback")
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit/secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{provider.redirect_uri}"\ncookie_secret = "{COOKIE_SECRET}"\n'
        f'client_id = "{CLIENT}"\nclient_secret = "{CLIENT_SECRET}"\n'
        f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n'
    )
    return Team(serve(workspace, folder, port=port), provider)


@pytest.mark.slow  # the first test waits for the server, which imports what the pages need
def test_a_stranger_sees_the_way_to_log_in_and_nothing_else(team):
    tab = Tab(team.served)
    for page in ("", "map", "runs", "data"):
        shown = tab.open(page, "study=town")
        assert "Log in" in shown
        assert not re.search("town|Town|studies|teacher", shown.replace('query_string: "study=town"', ""))
    tab.close()
    with httpx.Client(trust_env=False) as client:
        assert client.get(team.tile()).status_code == 401
        assert client.get(f"{team.url}/point/town/test-area?lat=1&lng=1").status_code == 401
        for path in ("media/x.png", "_stcore/metrics", "_stcore/upload_file/a/b", "_stcore/agent/openapi.json"):
            assert client.get(f"{team.url}/{path}").status_code == 401
        assert client.get(f"{team.url}/map").status_code == 200  # the empty frame


def test_a_viewer_sees_and_a_trainer_may_do(team):
    for email, role in ((VIEWER, "viewer"), (TRAINER, "trainer")):
        with team.log_in(email) as client:
            assert client.get(team.tile()).status_code in (200, 204)
            tab = Tab(team.served, client)
            shown = tab.open("train", "study=town")
            assert f"{role}" in shown
            locked = re.findall(r'label: "(?:Resume|Launch)"[^}]*?disabled: true', tab.open("train").replace("\n", " "))
            assert bool(locked) == (role == "viewer")
            tab.close()


def test_a_viewer_who_forges_a_click_changes_nothing(team):
    """The button is disabled in the browser; a click that is sent all the same is nothing to the server, either."""
    with team.log_in(TRAINER) as client:
        tab = Tab(team.served, client)
        shown = tab.open("data").replace("\n", " ")
        button = re.search(r'id: "([^"]*)"[^"]*label: "Make the demo area"', shown)[1]
        tab.close()
    with team.log_in(VIEWER) as client:
        tab = Tab(team.served, client)
        tab.open("data")
        shown = tab.open("data", press=button)
        tab.close()
    assert "Make the demo area" in shown  # it is still to be made
    assert not (team.served.workspace / ".areas/demo-0").exists()
    assert all(action.who != VIEWER for action in recent_actions(Workspace(team.served.workspace)))


def test_somebody_without_a_role_is_told_so(team):
    for email, claims in ((STRANGER, {}), (TRAINER, {"email_verified": False})):
        with team.log_in(email, **claims) as client:
            assert client.get(team.tile()).status_code == 401
            tab = Tab(team.served, client)
            shown = tab.open("map", "study=town")
            assert "has no role here" in shown
            assert "teacher" not in shown
            tab.close()


def test_a_role_that_is_taken_away_counts_at_once(team):
    file = team.served.workspace / "team.yaml"
    former = file.read_text()
    with team.log_in(VIEWER) as client:
        assert client.get(team.tile()).status_code in (200, 204)
        try:
            file.write_text(f"trainers: [{TRAINER}]\n")
            assert client.get(team.tile()).status_code == 401
            file.write_text("trainers: {\n")  # broken: nobody gets in
            assert client.get(team.tile()).status_code == 401
        finally:
            file.write_text(former)
        assert client.get(team.tile()).status_code in (200, 204)


def test_a_cookie_that_was_changed_or_is_of_another_name_is_none(team):
    with team.log_in(VIEWER) as client:
        value = client.cookies["_streamlit_user"]
        changed = value[:-4] + ("AAAA" if not value.endswith("AAAA") else "BBBB")
        for cookie in (changed, "", "x", "é", json.dumps({"is_logged_in": True, "email": TRAINER})):
            headers = {"cookie": f"_streamlit_user={cookie}".encode()}
            assert httpx.get(team.tile(), headers=headers, trust_env=False).status_code == 401
        other = team.tile().replace("127.0.0.1", "localhost")  # it was made under another name
        headers = {"cookie": f"_streamlit_user={value}"}
        assert httpx.get(other, headers=headers, trust_env=False).status_code == 401
        assert httpx.get(team.tile(), headers=headers, trust_env=False).status_code in (200, 204)


def test_a_token_that_the_provider_did_not_sign_lets_nobody_in(team):
    team.provider.forge = True
    try:
        with team.log_in(TRAINER) as client:
            assert "_streamlit_user" not in client.cookies
            assert client.get(team.tile()).status_code == 401
    finally:
        team.provider.forge = False


def test_logging_out_ends_it(team):
    with team.log_in(VIEWER) as client:
        client.get(f"{team.url}/auth/logout")
        assert client.get(team.tile()).status_code == 401


def test_the_log_holds_no_secret(team):
    text = Path(team.served.log).read_text()
    for secret in (COOKIE_SECRET, CLIENT_SECRET, "secret-access", "eyJ"):
        assert secret not in text
